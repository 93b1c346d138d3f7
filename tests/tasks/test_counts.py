"""Counts: the Poisson likelihood as scipy has it."""

import jax
import numpy as np
import pytest
from scipy.special import expit, gammaln
from scipy.stats import bernoulli, poisson

from dl.core.metrics import compute
from dl.models.customers import CustomerCode
from dl.tasks.counts import poisson_counts
from dl.testing import check_task

RNG = np.random.default_rng(0)
BATCH = {
    "features": RNG.normal(size=(6, 5)).astype(np.float32),
    "offset": RNG.normal(size=6).astype(np.float32),
    "later": np.array([0, 1, 0, 4, 2, 0], np.float32),
}


def test_the_loss_is_the_likelihood_and_training_begins_at_the_known_rate():
    task = poisson_counts(CustomerCode(3, (8,), dropout=0.2))
    check_task(task, BATCH)
    variables = task.init(jax.random.key(0), BATCH)
    said = task.predict(variables, BATCH)
    np.testing.assert_allclose(said["rate"], np.exp(BATCH["offset"]), rtol=1e-6)
    assert said["code"].shape == (6, 3)
    assert np.abs(said["code"]).max() < 1
    later, found = BATCH["later"], compute(task.evaluate(variables, BATCH))
    told = -poisson.logpmf(later, np.exp(BATCH["offset"])) - gammaln(later + 1)
    told = told - bernoulli.logpmf(later > 0, expit(np.asarray(said["again"], np.float64)))
    assert found["loss"] == pytest.approx(told.mean(), rel=1e-5)
    assert found["mse"] == pytest.approx(np.mean((np.exp(BATCH["offset"]) - later) ** 2), rel=1e-5)
