"""A student learns from what a teacher says, and is judged by the truth alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from mistakes import raises

import dl
from dl.core.metrics import compute
from dl.models.mlp import MLP
from dl.tasks.classification import classification
from dl.testing import check_task

RNG = np.random.default_rng(0)
ROWS = {
    "image": RNG.integers(0, 255, (6, 3, 3, 1)).astype(np.uint8),
    "label": np.arange(6, dtype=np.int32) % 3,
}
BATCH = {name: jnp.asarray(x) for name, x in ROWS.items()}
STUDENT, MASTER = classification(MLP((5, 3)), label_smoothing=0.1), classification(MLP((9, 3)))
TEACHER = dl.Predictor(MASTER, jax.jit(MASTER.init)(jax.random.key(7), BATCH))


def test_it_keeps_the_contract_of_a_task():
    check_task(dl.distill(STUDENT, TEACHER), ROWS)
    check_task(dl.lora(dl.distill(STUDENT, TEACHER), 2), ROWS, eager=False)


def test_the_loss_is_that_of_the_paper():
    task = dl.distill(STUDENT, TEACHER, temperature=3.0, weight=0.7)
    variables, key = jax.jit(task.init)(jax.random.key(0), BATCH), jax.random.key(1)
    loss, aux = task.loss(variables, BATCH, key)
    own = {"params": variables["params"]}
    p = jax.nn.softmax(MASTER.predict(TEACHER.variables, BATCH) / 3)
    q = jax.nn.softmax(STUDENT.predict(own, BATCH) / 3)
    divergence = (p * jnp.log(p / q)).sum(-1).mean()
    hard, _ = STUDENT.loss(own, BATCH, key)
    np.testing.assert_allclose(loss, 0.3 * hard + 0.7 * 9 * divergence, rtol=1e-5)
    np.testing.assert_allclose(compute(aux.metrics)["distillation"], divergence, rtol=1e-4)
    alone = STUDENT.evaluate(own, BATCH)
    jax.tree.map(np.testing.assert_array_equal, task.evaluate(variables, BATCH), alone)
    np.testing.assert_array_equal(task.predict(variables, BATCH), STUDENT.predict(own, BATCH))


def test_it_comes_to_say_what_the_teacher_says():
    task = dl.distill(STUDENT, TEACHER, weight=1.0)
    optimizer = optax.adam(0.05)
    state = dl.init_state(task, optimizer, BATCH)
    step = jax.jit(dl.train_step(task, optimizer))
    for _ in range(150):
        state, metrics = step(state, BATCH)
    assert compute(metrics)["distillation"] < 0.01
    jax.tree.map(np.testing.assert_array_equal, state.variables["teacher"], TEACHER.variables)


def test_a_collection_called_as_the_teachers_is_refused_not_lost():
    def init(key, batch):
        variables = STUDENT.init(key, batch)
        return {**variables, "teacher": variables["params"], "base": variables["params"]}

    own = dataclasses.replace(STUDENT, init=init)
    for task, name in (
        (dl.distill(own, TEACHER), "'teacher'"),
        (dl.distill(dl.distill(STUDENT, TEACHER), TEACHER), "'teacher'"),
        (dl.lora(own, 1), "'base'"),
    ):
        with raises("collection-taken", name):
            jax.eval_shape(task.init, jax.random.key(0), BATCH)


def test_a_teacher_of_other_classes_is_refused():
    other = dl.distill(classification(MLP((4,))), TEACHER)
    with raises("teacher-differs", "[6, 3]", "[6, 4]"):
        jax.eval_shape(other.loss, other.init(jax.random.key(0), BATCH), BATCH, jax.random.key(0))
    with raises("range", "temperature"):
        dl.distill(STUDENT, TEACHER, temperature=0.0)
    with raises("not-a-teacher", "str", "dl.open_run"):
        dl.distill(STUDENT, "runs/first")
    with raises("ensemble-last"):
        dl.distill(dl.ensemble(STUDENT, 2), TEACHER)
