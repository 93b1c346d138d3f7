"""The other strand of a sequence is the same sequence: turned round, exactly, through every layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.figures.logos import information, motifs, sequence_logos
from dl.models.genomics import SequenceNetwork, StrandConv, base_codes, other_strand

BASES = np.random.default_rng(0).integers(0, 5, (3, 21)).astype(np.uint8)


def whole(variables):
    """Weights as small whole numbers, whose sums are exact in whatever order."""
    return jax.tree.map(
        lambda x: jnp.round(4 * jax.random.normal(jax.random.key(1), x.shape)), variables
    )


def test_letters_become_codes_and_the_other_strand_comes_back():
    assert base_codes(["ACGT", "uNa"], 5).tolist() == [[0, 1, 2, 3, 4], [3, 4, 0, 4, 4]]
    assert base_codes(["AACG"], 4)[0].tolist() == [0, 0, 1, 2]
    assert other_strand(np.array([0, 0, 1, 2])).tolist() == [1, 2, 3, 3]
    np.testing.assert_array_equal(other_strand(other_strand(BASES)), BASES)
    with raises("not-bases", "sentiment"):
        base_codes(["a film to see", "not this one"], 20)


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_layer_is_turned_round_with_its_input(dilation):
    layer = StrandConv(4, 5, dilation)
    x = jax.nn.one_hot(BASES, 4)
    variables = whole(layer.init(jax.random.key(0), x))
    y, turned = (layer.apply(variables, z) for z in (x, jax.nn.one_hot(other_strand(BASES), 4)))
    np.testing.assert_array_equal(turned, jnp.flip(y, (1, 2)))
    assert y.shape == (3, 21, 8)
    kernel = np.concatenate(
        [variables["params"]["kernel"], variables["params"]["kernel"][::-1, ::-1, ::-1]], -1
    )
    middle, reach = 10, 2 * dilation
    window = x[:, middle - reach : middle + reach + 1 : dilation]
    bias = np.concatenate([variables["params"]["bias"], variables["params"]["bias"][::-1]])
    np.testing.assert_array_equal(y[:, middle], np.einsum("bwi,wio->bo", window, kernel) + bias)
    with raises("range", "no middle"):
        StrandConv(4, 4).init(jax.random.key(0), x)


def test_where_both_strands_are_one_their_logits_are_equal_to_the_bit():
    network = SequenceNetwork(2, 8, 5, 2, both=True, direct=True)
    variables = whole(jax.jit(network.init)(jax.random.key(0), BASES))
    said = jax.jit(network.apply)
    one, other = said(variables, BASES), said(variables, other_strand(BASES))
    np.testing.assert_array_equal(one, other)
    assert len(set(one[:, 0].tolist())) == 3
    given = jax.jit(SequenceNetwork(2, 8, 5, 2).apply)
    assert not np.array_equal(given(variables, BASES), given(variables, other_strand(BASES)))


def test_a_planted_motif_is_found_and_drawn():
    rows = np.random.default_rng(1).integers(0, 4, (200, 30))
    planted = base_codes(["TATAA"], 5)[0]
    rows[:, 12:17] = planted
    kernel = np.zeros((5, 4, 2))
    kernel[np.arange(5), planted, 0] = 1
    (found,) = motifs(kernel, rows, least=0.9)
    assert motifs(kernel, rows[:, :4]) == []  # no place for it
    assert found.argmax(-1).tolist() == planted.tolist()
    np.testing.assert_allclose(information(found), 2, atol=0.3)
    assert len(sequence_logos([found]).axes[0].patches) >= 5
