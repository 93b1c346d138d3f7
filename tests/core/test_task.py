"""Transformations of tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dl.core.errors import UserError
from dl.core.metrics import compute
from dl.core.random import purpose_key
from dl.core.task import ensemble
from dl.models.mlp import MLP
from dl.tasks.classification import classification

KEY = jax.random.key(0)
BATCH = {
    "image": jax.random.randint(KEY, (6, 4, 4, 1), 0, 256).astype(jnp.uint8),
    "label": jnp.arange(6) % 3,
}


@pytest.mark.parametrize("one_by_one", [False, True])
def test_members_of_an_ensemble_are_solo_tasks_and_its_prediction_their_mean(one_by_one):
    task = classification(MLP((5, 3), dropout=0.5))
    many = ensemble(task, 3, one_by_one=one_by_one)
    variables = many.init(KEY, BATCH)
    alone = [task.init(purpose_key(KEY, "member", member), {**BATCH}) for member in range(3)]
    for member, own in enumerate(alone):
        for stacked, leaf in zip(jax.tree.leaves(variables), jax.tree.leaves(own), strict=True):
            np.testing.assert_allclose(stacked[member], leaf, atol=1e-6)

    gradients = jax.grad(lambda v: many.loss(v, BATCH, KEY)[0])(variables)
    own = jax.grad(lambda v: task.loss(v, BATCH, purpose_key(KEY, "member", 1))[0])(alone[1])
    for stacked, leaf in zip(jax.tree.leaves(gradients), jax.tree.leaves(own), strict=True):
        np.testing.assert_allclose(3 * stacked[1], leaf, atol=1e-5)

    said = [task.predict(own, BATCH["image"]) for own in alone]
    np.testing.assert_allclose(many.predict(variables, BATCH["image"]), np.mean(said, 0), atol=1e-5)
    mean = optax.softmax_cross_entropy_with_integer_labels(
        jnp.mean(jnp.array(said), 0), BATCH["label"]
    )
    assert compute(many.evaluate(variables, BATCH))["loss"] == pytest.approx(
        float(mean.mean()), rel=1e-5
    )
    each = [compute(task.evaluate(own, BATCH)) for own in alone]
    apart = ensemble(task._replace(outputs=None, score=None), 3)
    found = compute(apart.evaluate(variables, BATCH))
    assert found["loss"] == pytest.approx(np.mean([one["loss"] for one in each]), rel=1e-5)


def test_an_ensemble_checks_its_data_as_one_member_would():
    many = ensemble(classification(MLP((5, 3))), 2)
    variables = jax.eval_shape(many.init, KEY, BATCH)
    if many.check is not None:
        columns = {"image": np.asarray(BATCH["image"]), "label": np.full(6, 7)}
        with pytest.raises(UserError):
            many.check(variables, BATCH, columns)
