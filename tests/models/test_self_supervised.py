"""What stands around encoders while they learn without labels."""

import jax
import numpy as np
import pytest

from dl.models.pictures import USUAL, picture_classifier
from dl.models.self_supervised import Projected, masked_autoencoder
from dl.models.transformer import Transformer
from dl.models.vit import ViT


@pytest.mark.parametrize("kind", USUAL)
def test_without_classes_a_network_gives_what_its_classifier_reads(kind):
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    whole, bare = (
        picture_classifier(kind, classes, (8, 8), widths=(8,), depth=1) for classes in (5, 0)
    )
    variables = jax.jit(whole.init)(jax.random.key(0), x)
    params = dict(variables["params"])
    (last,) = set(params) - {*jax.eval_shape(bare.init, jax.random.key(0), x)["params"]}
    head = params.pop(last)
    read = bare.apply({**variables, "params": params}, x)
    logits = whole.apply(variables, x)
    np.testing.assert_allclose(read @ head["kernel"] + head["bias"], logits, atol=1e-5)


def test_a_projection_is_two_layers_behind_the_features():
    model = Projected(picture_classifier("cnn", 0, (8, 8), widths=(4,)), 6, 3)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    variables = model.init(jax.random.key(0), x)
    read = model.apply(variables, x, method="features")
    first, last = (variables["params"][name] for name in ("first", "last"))
    expected = np.maximum(read @ first["kernel"] + first["bias"], 0) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(model.apply(variables, x), expected, atol=1e-5)


def test_a_masked_autoencoder_sees_what_is_kept_and_says_all_patches():
    """By gathering and scattering in NumPy around the same Transformers; and nothing hidden leaks."""
    model = masked_autoencoder(ViT(0, Transformer(8, 1, 2), 4), (8, 12, 1))
    draw = np.random.default_rng(0)
    x, rows = draw.normal(size=(2, 8, 12, 1)).astype(np.float32), np.array([[4, 0, 1], [5, 2, 3]])
    kept = np.eye(6, dtype=np.float32)[rows]
    variables = jax.jit(model.init)(jax.random.key(0), x, kept)
    apply = jax.jit(model.apply)
    found, p = apply(variables, x, kept), jax.tree.map(np.asarray, variables["params"])
    assert found.shape == (2, 6, 16)

    cut = x.reshape(2, 2, 4, 3, 4, 1).transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, 16)
    every = cut @ p["encoder"]["patches"]["kernel"] + p["encoder"]["patches"]["bias"]
    every = every + p["encoder"]["positions"]
    seen = np.stack([one[own] for one, own in zip(every, rows, strict=True)])
    seen = np.asarray(model.encoder.body.apply({"params": p["encoder"]["body"]}, seen)[0])
    seen = seen @ p["narrow"]["kernel"] + p["narrow"]["bias"]
    full = np.tile(p["hidden"], (2, 6, 1))
    for one, own, given in zip(full, rows, seen, strict=True):
        one[own] = given
    full = model.decoder.apply({"params": p["decoder"]}, full + p["positions"])[0]
    expected = full @ p["pixels"]["kernel"] + p["pixels"]["bias"]
    np.testing.assert_allclose(found, expected, atol=1e-5)

    other = x.copy()
    other[0, :4, 8:] += 1.0  # patch 2 of the first picture, which is hidden
    np.testing.assert_array_equal(apply(variables, other, kept), found)
