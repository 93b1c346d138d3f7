"""A reader of stories: by NumPy, and whatever is padding changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.stories import StoryReader
from dl.models.transformer import Transformer

RNG = np.random.default_rng(0)
MODEL = StoryReader(vocabulary=20, answers=5, sentences=6, words=4, width=8, hops=3, heads=2)


def rows(sentences=3, choices=None):
    story = RNG.integers(1, 20, (2, sentences, 4))
    story[0, 1, 2:] = 0  # a shorter sentence
    story[1, -1] = 0  # a shorter story
    found = {"story": jnp.asarray(story), "question": jnp.asarray(RNG.integers(1, 20, (2, 4)))}
    if choices:
        found["choices"] = jnp.asarray(RNG.integers(1, 20, (2, choices, 4)))
    return found


@pytest.mark.parametrize("choices", [None, 3])
def test_the_same_layer_again_and_again(choices):
    given = rows(choices=choices)
    variables = MODEL.init(jax.random.key(0), given)
    p = jax.tree.map(np.asarray, variables["params"])
    p["place"] = RNG.normal(size=p["place"].shape).astype(np.float32)
    table = p["embedding"]["embedding"]

    def sentence(tokens):
        return sum(table[t] * p["place"][n] for n, t in enumerate(tokens) if t)

    layer = Transformer(8, 1, 2, hidden=16)
    wanted = []
    for row in range(2):
        story = [line for line in np.asarray(given["story"])[row].tolist() if any(line)]
        told = [sentence(line) + p["when"][len(story) - n] for n, line in enumerate(story)]
        x = np.stack([sentence(np.asarray(given["question"])[row]), *told])[None]
        for step in p["hop"]:
            x, _ = layer.apply({"params": p["layer"]}, x + step)
        read = np.asarray(x)[0, 0]
        if choices:
            each = np.stack([sentence(c) for c in np.asarray(given["choices"])[row]])
            wanted.append((each @ p["choice"]["kernel"] + p["choice"]["bias"]) @ read / 8**0.5)
        else:
            wanted.append(read @ p["head"]["kernel"] + p["head"]["bias"])
    said = MODEL.apply({"params": p}, given)
    np.testing.assert_allclose(said, np.stack(wanted), atol=2e-5)
    assert len(p["layer"]) == 2  # one block, however many hops, and the norm


def test_more_padding_changes_nothing():
    given = rows()
    variables = MODEL.init(jax.random.key(0), given)
    wide = given | {"story": jnp.pad(given["story"], ((0, 0), (0, 2), (0, 0)))}
    np.testing.assert_allclose(
        MODEL.apply(variables, wide), MODEL.apply(variables, given), atol=1e-6
    )
