"""FixMatch: the contract, the loss of the paper, what rows without labels count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

import dl
from dl.core.metrics import compute
from dl.models.mlp import MLP
from dl.tasks.classification import classification
from dl.tasks.consistency import Viewed, consistent
from dl.testing import check_task

RNG = np.random.default_rng(0)
ROWS = {
    "image": RNG.integers(0, 255, (6, 3, 3, 1)).astype(np.uint8),
    "label": np.int32([0, -1, 2, -1, 1, -1]),
}
OWN = classification(MLP((5, 3)), label_smoothing=0.1)


def darker(key, batch):
    return {**batch, "image": batch["image"] // 2}


def test_it_keeps_the_contract():
    check_task(consistent(OWN, darker), ROWS, eager=False)


@pytest.mark.parametrize("mask", [None, np.float32([1, 1, 1, 0, 0, 1])])
def test_the_loss_is_that_of_the_paper(mask):
    plain, harder = (np.asarray(RNG.normal(size=(6, 3))) * 3 for _ in range(2))
    batch = {"label": ROWS["label"]} | ({} if mask is None else {"mask": mask})
    task = consistent(OWN, darker, threshold=0.8, weight=0.5)
    found = compute(task.score(Viewed(jnp.float32(plain), jnp.float32(harder)), batch, True))
    rows = range(6) if mask is None else np.flatnonzero(mask)

    def log_chances(logits):
        return logits - np.log(np.exp(logits).sum())

    known = [n for n in rows if ROWS["label"][n] >= 0]
    targets = np.eye(3)[ROWS["label"]] * 0.9 + 0.1 / 3
    told = [-(targets[n] * log_chances(plain[n])).sum() for n in known]
    sure = [n for n in rows if np.exp(log_chances(plain[n])).max() > 0.8]
    assert 0 < len(sure) < len(list(rows))
    agreed = sum(-log_chances(harder[n])[plain[n].argmax()] for n in sure)
    right = np.mean([plain[n].argmax() == ROWS["label"][n] for n in known])
    assert found == {
        "loss": pytest.approx((sum(told) + 0.5 * agreed) / len(list(rows)), rel=1e-5),
        "consistency": pytest.approx(agreed / len(list(rows)), rel=1e-5),
        "sure": pytest.approx(len(sure) / len(list(rows))),
        "accuracy": pytest.approx(right),
    }


def test_a_guess_is_a_target_and_no_gradient_flows_through_it():
    task = consistent(OWN, darker, threshold=0.0, weight=1.0)
    batch = {"label": jnp.full(6, -1)}
    logits = jnp.float32(RNG.normal(size=(2, 6, 3)))

    def loss(plain, harder):
        total, weight = task.score(Viewed(plain, harder), batch, True)["loss"]
        return total / weight

    plain, harder = jax.grad(loss, (0, 1))(*logits)
    np.testing.assert_array_equal(plain, 0.0)
    guess = np.eye(3)[logits[0].argmax(-1)]
    np.testing.assert_allclose(harder, (jax.nn.softmax(logits[1]) - guess) / 6, atol=1e-6)


def test_both_views_are_seen_and_evaluation_is_the_tasks():
    task = consistent(OWN, darker)
    batch = {name: jnp.asarray(x) for name, x in ROWS.items()}
    variables = task.init(jax.random.key(0), batch)
    outputs, _ = task.apply(variables, batch, jax.random.key(1))
    np.testing.assert_allclose(outputs.plain, OWN.predict(variables, batch), rtol=1e-5)
    half = OWN.predict(variables, darker(None, batch))
    np.testing.assert_allclose(outputs.harder, half, rtol=1e-5)
    known = {name: x[::2] for name, x in batch.items()}
    held, alone = task.evaluate(variables, batch), OWN.evaluate(variables, known)
    assert compute(held) == pytest.approx(compute(alone), rel=1e-5)


def test_micro_batches_add_up_however_the_labels_fall():
    task, key = consistent(OWN, darker, threshold=0.3), jax.random.key(1)
    batch = {name: jnp.asarray(x)[jnp.array([0, 2, 4, 1, 3, 5])] for name, x in ROWS.items()}
    variables = task.init(jax.random.key(0), batch)
    parts = [{name: x[cut] for name, x in batch.items()} for cut in (slice(3), slice(3, 6))]
    whole = task.loss(variables, batch, key)[0]
    first, second = (task.loss(variables, part, key)[0] for part in parts)
    np.testing.assert_allclose(whole, (first + second) / 2, rtol=1e-5)


def test_mistakes_are_told():
    task = consistent(OWN, darker)
    variables = jax.eval_shape(task.init, jax.random.key(0), ROWS)
    for wrong in (-2, 3):
        with raises("class-out-of-range", "'label'", str(wrong)):
            task.check(variables, ROWS, {**ROWS, "label": np.int32([wrong])})
    with raises("ensemble-last"):
        consistent(dl.ensemble(OWN, 2), darker)
    with raises("range", "threshold"):
        consistent(OWN, darker, threshold=1.0)
