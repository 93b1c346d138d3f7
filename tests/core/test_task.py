"""Transformations of tasks: each keeps what the task is, alone and composed with every other."""

import dataclasses
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp
from mistakes import raises

import dl
from dl.core.metrics import compute
from dl.core.optim import OptimizerName
from dl.core.state import TrainState
from dl.core.task import member_key
from dl.core.transforms import ensemble, mean_of_values, mixed_precision
from dl.models.gan import GAN
from dl.models.language import EncoderDecoder
from dl.models.mlp import MLP
from dl.models.transformer import Transformer
from dl.models.vae import VAE
from dl.tasks.adversarial import adversarial
from dl.tasks.classification import classification
from dl.tasks.regression import regression
from dl.tasks.sequence_to_sequence import sequence_to_sequence
from dl.tasks.variational import variational

KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)
BATCH = {
    "image": jnp.asarray(DRAW.integers(0, 256, (12, 4, 4, 1)), jnp.uint8),
    "label": jnp.arange(12) % 3,
}


class Net(nn.Module):
    """All that a member may carry: dropout, statistics, and parameters of one and two axes."""

    @nn.compact
    def __call__(self, x, *, train=False):
        # No bias before the norm: its gradient is rounding, of which Adam makes whole steps.
        x = nn.Dense(6, use_bias=False)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x)))


def member(state: TrainState, number: int) -> TrainState:
    """The run of one member alone, from an ensemble's state."""
    own = jax.tree.map(
        lambda x: x[number],
        dataclasses.replace(state, step=jnp.zeros(8), key=jax.random.split(KEY, 8)),
    )
    return dataclasses.replace(own, step=state.step, key=member_key(state.key, number))


def shifted(key, batch):
    noise = jax.random.randint(key, batch["image"].shape, 0, 9).astype(jnp.uint8)
    return {**batch, "image": batch["image"] // 2 + noise}


def steps(task, states, optimizer, count=3, **options):
    """What each of ``states`` has become after ``count`` steps, and the last metrics, by one program."""
    step = jax.jit(dl.train_step(task, optimizer, **options))
    ends = []
    for state in states:
        for _ in range(count):
            state, metrics = step(state, BATCH)
        ends.append((state, metrics))
    return ends


def close(a, b, tolerance=1e-5):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


# One that is linear in the gradient, and those that look at more than a single number of it.
OPTIMIZERS: dict[OptimizerName, dict] = {
    "sgd": {},
    "momentum": {"clip": 0.05},
    "adamw": {"weight_decay": 0.1, "clip": 0.05},
    "lamb": {"weight_decay": 0.1},
    "muon": {"weight_decay": 0.1},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_member_of_an_ensemble_moves_as_it_does_alone(name):
    """Under every optimiser, with dropout, augmentation, batch norm and a moving average of its own."""
    task, options = classification(Net()), {"augment": (shifted,), "ema": 0.9}
    optimizer = dl.optimizer(name, 1e-2, **OPTIMIZERS[name])
    many = ensemble(task, 3, one_by_one=name == "sgd")
    state = dl.init_state(many, optimizer, BATCH, ema=True)
    ((together, metrics),) = steps(many, [state], optimizer, **options)
    losses = []
    ends = steps(task, [member(state, number) for number in range(3)], optimizer, **options)
    for number, (alone, own) in enumerate(ends):
        found = member(together, number)
        # Muon's iteration of five steps makes of 1e-7 about 1e-4.
        close(found.variables, alone.variables, 1e-3 if name == "muon" else 2e-5)
        close(found.ema, alone.ema, 1e-3 if name == "muon" else 2e-5)
        losses.append(compute(own)["loss"])
    assert compute(metrics)["loss"] == pytest.approx(np.mean(losses), rel=1e-3)
    assert len({round(loss, 4) for loss in losses}) == 3


def test_a_member_moves_alone_in_micro_batches_too():
    task, optimizer = classification(Net()), dl.optimizer("adam", 1e-2)
    many = ensemble(task, 2)
    state = dl.init_state(many, optimizer, BATCH)
    ((together, _),) = steps(many, [state], optimizer, micro_batches=3)
    ((alone, _),) = steps(task, [member(state, 1)], optimizer, micro_batches=3)
    close(member(together, 1).variables, alone.variables)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "muon"])
def test_no_member_notices_another(name):
    task = classification(MLP((6, 3)))
    many, optimizer = ensemble(task, 2), dl.optimizer(name, 1e-2, clip=0.1, weight_decay=0.1)
    state = dl.init_state(many, optimizer, BATCH)
    odd = jax.tree.map(lambda x: x.at[0].multiply(30.0), state.variables)
    begun = [state, dataclasses.replace(state, variables=odd)]
    (a, _), (b, _) = steps(many, begun, optimizer)
    close(*(jax.tree.map(lambda x: x[1], s.variables) for s in (a, b)), 0)  # type: ignore[call-arg]


def test_an_optimizer_begun_on_the_stacked_parameters_serves_too():
    task = classification(MLP((6, 3)))
    for name in ("adam", "muon"):
        many, optimizer = ensemble(task, 2), dl.optimizer(name, 1e-2, weight_decay=0.1)
        state = dl.init_state(many, optimizer, BATCH)
        raw = dataclasses.replace(state, opt_state=optimizer.init(state.variables["params"]))
        close(*(end.variables for end, _ in steps(many, [state, raw], optimizer)))


def test_an_ensemble_scores_and_predicts_the_mean_probability():
    task = classification(Net())
    many = ensemble(task, 3)
    state = dl.init_state(many, dl.optimizer("sgd", 0.1), BATCH)
    logits = np.array(
        [task.predict(member(state, i).variables, BATCH) for i in range(3)], np.float64
    )
    share = np.exp(logits - logsumexp(logits, -1, keepdims=True)).mean(0)
    found = many.predict(state.variables, BATCH)
    np.testing.assert_allclose(jax.nn.softmax(found), share, rtol=1e-4)
    nats = -np.log(share[np.arange(12), np.asarray(BATCH["label"])])
    assert compute(many.evaluate(state.variables, BATCH))["loss"] == pytest.approx(
        nats.mean(), rel=1e-4
    )


def test_an_ensemble_of_numbers_predicts_their_mean():
    class Sum(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            return nn.Dense(1)(x.reshape(len(x), -1))[:, 0]

    task = regression(
        Sum(), inputs="image", arguments=lambda x: (x.astype(jnp.float32),), centre=5.0, spread=2.0
    )
    many = ensemble(task, 3)
    state = dl.init_state(many, dl.optimizer("sgd", 0.1), BATCH)
    said = [task.predict(member(state, i).variables, BATCH) for i in range(3)]
    found = many.predict(state.variables, BATCH)
    np.testing.assert_allclose(found, np.mean(said, 0), rtol=1e-5)
    assert compute(many.evaluate(state.variables, BATCH))["mse"] == pytest.approx(
        np.mean((np.mean(said, 0) - np.asarray(BATCH["label"])) ** 2), rel=1e-4
    )


BODY = Transformer(16, 1, 2, rope=100.0, hidden=16)
NO_MEAN = {
    "tokens": lambda: sequence_to_sequence(
        EncoderDecoder(20, BODY, BODY.clone(causal=True, cross=True)), 6
    ),
    "bounds": lambda: variational(VAE(MLP((4,)), MLP((16,)), (4, 4, 1))),
    "players": lambda: adversarial(GAN((4, 4, 1), 2)),
}


@pytest.mark.parametrize("name", NO_MEAN)
def test_what_has_no_mean_is_refused_in_one_line(name):
    with raises("ensemble-no-mean", "--seeds", "mean_of_values"):
        ensemble(NO_MEAN[name](), 3)


def test_class_numbers_are_never_averaged():
    task = classification(MLP((3,)))
    decided = dataclasses.replace(task, predict=lambda v, x: task.predict(v, x).argmax(-1))
    many = ensemble(decided, 2)
    variables = many.init(KEY, BATCH)
    with raises("ensemble-no-mean", "int32"):
        many.predict(variables, BATCH)


def constant(*_):
    return jnp.full(12, 7.0)


REPLACED = {
    "predict": (lambda v, x: constant(), lambda t, v: t.predict(v, BATCH)[0]),
    "score": (
        lambda outputs, batch, train: {"loss": dl.core.metrics.mean(constant())},
        lambda t, v: compute(t.evaluate(v, BATCH))["loss"],
    ),
    "apply": (
        lambda v, batch, key: (jnp.tile(jnp.array([0.0, 0.0, 30.0]), (12, 1)), {}),
        lambda t, v: 10.0 - 9.0 * compute(t.evaluate(v, BATCH))["accuracy"],
    ),
}
TRANSFORMATIONS = {
    "mixed_precision": mixed_precision,
    "ensemble": lambda task: ensemble(task, 2),
    "one by one": lambda task: ensemble(task, 2, one_by_one=True),
}


@pytest.mark.parametrize("field", REPLACED)
@pytest.mark.parametrize(
    "order",
    [
        *((name,) for name in TRANSFORMATIONS),
        *itertools.permutations(("mixed_precision", "ensemble")),
        *itertools.permutations(("mixed_precision", "one by one")),
        ("mixed_precision", "mixed_precision"),
    ],
)
def test_a_replaced_field_stays_through_every_composition(field, order):
    value, look = REPLACED[field]
    task = dataclasses.replace(classification(MLP((3,))), **{field: value})
    if field == "predict":
        task = dataclasses.replace(task, average=mean_of_values)
    for name in order:
        task = TRANSFORMATIONS[name](task)
    variables = task.init(KEY, BATCH)
    assert float(look(task, variables)) == pytest.approx(7.0, rel=1e-2)
    if field == "score":
        optimizer = dl.optimizer("sgd", 0.1)
        _, metrics = dl.train_step(task, optimizer)(dl.init_state(task, optimizer, BATCH), BATCH)
        assert compute(metrics)["loss"] == 7.0


def test_members_compute_in_the_precision_asked_for_whichever_comes_first():
    seen = []

    class Spy(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            hidden = nn.Dense(3)(x.reshape(len(x), -1))
            seen.append(hidden.dtype)
            return hidden

    task, optimizer = classification(Spy()), dl.optimizer("adam", 1e-2)
    for made in (ensemble(mixed_precision(task), 2), mixed_precision(ensemble(task, 2))):
        state = jax.eval_shape(lambda task=made: dl.init_state(task, optimizer, BATCH))
        seen.clear()
        new, _ = jax.eval_shape(dl.train_step(made, optimizer), state, BATCH)
        assert set(seen) == {jnp.dtype("bfloat16")}
        assert {x.dtype for x in jax.tree.leaves(new.variables)} == {jnp.dtype("float32")}


def test_an_ensemble_checks_its_data_as_one_member_would():
    many = ensemble(classification(MLP((5, 3))), 2)
    variables = jax.eval_shape(many.init, KEY, BATCH)
    columns = {"image": np.asarray(BATCH["image"]), "label": np.full(12, 7)}
    with raises("class-out-of-range", "'label'"):
        many.check(variables, BATCH, columns)


@pytest.mark.parametrize("members", [2.5, "2", None])
def test_members_are_a_whole_number(members):
    with raises("range", "1 member or more", f"not {members!r}"):
        ensemble(classification(MLP((3,))), members)


def test_an_ensemble_of_ensembles_is_refused():
    with raises("ensemble-nested"):
        ensemble(ensemble(classification(MLP((3,))), 2), 2)


def test_an_ensemble_of_nobody_is_refused():
    with raises("range", "1 member or more", "not 0"):
        ensemble(classification(MLP((3,))), 0)


def test_members_and_ensemble_have_one_score():
    plain = classification(MLP((3,)))

    def score(outputs, batch, train):
        return plain.score(outputs, batch, train)

    many = ensemble(dataclasses.replace(plain, score=score), 2)
    assert many.members.task.score is score
    with raises("ensemble-last", "score"):
        dataclasses.replace(ensemble(plain, 2), score=score)
