"""Speech encoders: shapes, and padding that never shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.models.speech import (
    BiLSTMEncoder,
    ConformerEncoder,
    ConvEncoder,
    DepthwiseConv,
    SpeechClassifier,
    SpeechRecognizer,
)

X = jax.random.normal(jax.random.key(0), (2, 21, 8))
FRAMES = jnp.array([21, 10])
ENCODERS = [
    ConvEncoder((4, 4), halvings=2),
    BiLSTMEncoder(4, 1, stack=4),
    ConformerEncoder(8, layers=1, heads=2, window=5),
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda e: type(e).__name__)
def test_what_padding_holds_never_reaches_a_real_frame(encoder):
    variables = jax.jit(encoder.init)(jax.random.key(1), X, FRAMES)
    run = jax.jit(encoder.apply)
    y, frames = run(variables, X, FRAMES)
    assert frames.tolist() == [6, 3]
    assert y.shape[:2] == (2, 6)
    dirty = X.at[1, 10:].set(99.0)
    np.testing.assert_allclose(run(variables, dirty, FRAMES)[0][1, :3], y[1, :3], atol=1e-5)
    alone, _ = encoder.apply(variables, X[1:, :10], FRAMES[1:])
    np.testing.assert_allclose(alone[0, :3], y[1, :3], atol=1e-5)


def test_training_masks_features_and_changes_statistics():
    model = SpeechClassifier(ConvEncoder((4, 4)), 3)
    variables = jax.jit(model.init)(jax.random.key(1), X, FRAMES)
    rngs = {"dropout": jax.random.key(2)}
    y, changed = model.apply(variables, X, FRAMES, train=True, rngs=rngs, mutable=["batch_stats"])
    assert y.shape == (2, 3)
    before, after = (jax.tree.leaves(v["batch_stats"]) for v in (variables, changed))
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_recognizer_gives_a_blank_and_every_token():
    model = SpeechRecognizer(BiLSTMEncoder(4, 1), 10)
    (logits, frames), _ = jax.jit(model.init_with_output)(jax.random.key(1), X, FRAMES)
    assert logits.shape == (2, 11, 11)
    assert frames.tolist() == [11, 5]


def test_depthwise_convolution_is_xlas_grouped_one():
    x = jax.random.normal(jax.random.key(0), (2, 9, 3))
    y, variables = DepthwiseConv(4).init_with_output(jax.random.key(1), x)
    kernel = variables["params"]["kernel"][:, None, :]
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1,), [(1, 2)], dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=3
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)
