"""Masked autoencoding: the contract, the loss of the paper."""

import jax
import numpy as np
from mistakes import raises

from dl.core.metrics import compute
from dl.models.self_supervised import masked_autoencoder
from dl.models.transformer import Transformer
from dl.models.vit import ViT
from dl.tasks.masked_autoencoding import masked_autoencoding
from dl.testing import check_task

MODEL = masked_autoencoder(ViT(0, Transformer(8, 1, 2), 4), (8, 8, 1))
IMAGE = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype(np.uint8)


def test_it_keeps_the_contract():
    check_task(masked_autoencoding(MODEL, hidden=0.5), {"image": IMAGE}, eager=False)


def test_the_loss_is_of_hidden_patches_by_their_own_mean_and_deviation():
    task = masked_autoencoding(MODEL, hidden=0.75)
    draw = np.random.default_rng(1)
    said, chosen = draw.normal(size=(4, 4, 16)), np.ones((4, 4))
    chosen[np.arange(4), [0, 3, 1, 1]] = 0
    mask = np.array([1, 1, 0, 1])
    found = compute(task.score((said, chosen), {"image": IMAGE, "mask": mask}, False))
    cut = IMAGE.reshape(4, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(4, 4, 16) / 127.5 - 1
    true = (cut - cut.mean(-1, keepdims=True)) / np.sqrt(cut.var(-1, keepdims=True) + 1e-6)
    error = np.square(said - true).mean(-1)[mask > 0][chosen[mask > 0] > 0]
    np.testing.assert_allclose(found["loss"], error.mean(), rtol=1e-5)


def test_as_many_patches_are_hidden_as_asked_others_at_every_step():
    task = masked_autoencoding(MODEL, hidden=0.75)
    variables = jax.jit(task.init)(jax.random.key(0), {"image": IMAGE})
    hidden = [task.apply(variables, {"image": IMAGE}, jax.random.key(n))[0][1] for n in range(2)]
    np.testing.assert_array_equal(np.sum(hidden, -1), 3)
    assert (hidden[0] != hidden[1]).any()


def test_hiding_nothing_or_all_is_refused():
    for share in (0.01, 0.99):
        with raises("range", "some of 4 patches"):
            masked_autoencoding(MODEL, hidden=share)
