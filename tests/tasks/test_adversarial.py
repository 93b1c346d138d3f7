"""Two players in one gradient: each half against its own loss, the penalty against torch, learning."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning import learn

import dl
from dl.core import metrics as M
from dl.models.gan import GAN, Discriminator, Generator
from dl.models.layers import Dense
from dl.scores.frechet import frechet_distance
from dl.tasks.adversarial import adversarial, hinge, non_saturating, players, wasserstein


class Plane(nn.Module):
    """A player on vectors."""

    outputs: int

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        x = jnp.tanh(Dense(16)(x))
        x = Dense(self.outputs)(x)
        return x[:, 0] if self.outputs == 1 else x


PLANE = GAN(Plane(2), Plane(1), latent=3)
PICTURES = GAN(Generator((4, 4, 1), (8,)), Discriminator((4,), spectral=True), latent=3)


def as_is(x):
    return x


def ring(key, batch=64):
    return {"image": jax.random.normal(key, (batch, 2)) * 0.1 + jnp.array([2.0, -1.0])}


@pytest.mark.parametrize("objective", [non_saturating, hinge, wasserstein])
def test_each_player_gets_the_gradient_of_its_own_loss(objective):
    task = adversarial(PLANE, objective, prepare=as_is)
    batch = ring(jax.random.key(0))
    variables = jax.jit(task.init)(jax.random.key(1), batch)
    key = jax.random.key(2)
    both = jax.jit(jax.grad(lambda p: task.loss({"params": p}, batch, key)[0]))(variables["params"])

    def alone(params, name):
        held = {n: p if n == name else jax.lax.stop_gradient(p) for n, p in params.items()}
        return M_of(task.loss({"params": held}, batch, key)[1], name)

    def M_of(aux, name):
        total, weight = aux.metrics[name]
        return total / weight

    for name in ("generator", "discriminator"):
        own = jax.jit(jax.grad(alone), static_argnums=1)(variables["params"], name)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), both[name], own[name]
        )
        assert max(jnp.abs(g).max() for g in jax.tree.leaves(both[name])) > 1e-3


def test_gradient_penalty_matches_torch():
    torch = pytest.importorskip("torch")
    task = adversarial(PLANE, wasserstein, gradient_penalty=jnp.float32(10.0), prepare=as_is)
    plain = adversarial(PLANE, wasserstein, prepare=as_is)
    # Where real and generated pictures agree, so does everything between them.
    point = jnp.tile(jnp.array([[0.3, -0.8]]), (4, 1))
    variables = jax.jit(task.init)(jax.random.key(1), {"image": point})
    params = variables["params"]
    params["generator"]["Dense_1"]["kernel"] = jnp.zeros((16, 2))
    params["generator"]["Dense_1"]["bias"] = point[0]

    def penalty(params):
        losses = [
            t.loss({"params": params}, {"image": point}, jax.random.key(2))[0]
            for t in (task, plain)
        ]
        return losses[0] - losses[1]

    value, grads = jax.jit(jax.value_and_grad(penalty))(params)

    p = {n: {k: torch.tensor(np.array(v), requires_grad=True) for k, v in d.items()}
         for n, d in params["discriminator"].items()}  # fmt: skip
    x = torch.tensor(np.array(point), requires_grad=True)
    hidden = torch.tanh(x @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"])
    score = hidden @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]
    (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    expected = 10 * ((slope.norm(dim=1) - 1) ** 2).mean()
    expected.backward()
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-4)
    got = grads["discriminator"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(got, p["Dense_0"]["kernel"].grad, atol=1e-4)


def test_it_learns_where_the_data_is():
    task = adversarial(PLANE, prepare=as_is)
    optimizer = players(optax.adam(1e-3, b1=0.5), optax.adam(5e-3, b1=0.5))
    state, *_ = learn(task, optimizer, lambda step: ring(jax.random.key(step)), 400)
    fake = jax.jit(task.predict)(state.variables, {"noise": PLANE.noise(jax.random.key(5), 200)})
    np.testing.assert_allclose(fake.mean(0), [2.0, -1.0], atol=0.4)


def test_the_generator_moves_only_at_every_so_manieth_step():
    task = adversarial(PLANE, prepare=as_is)
    optimizer = players(optax.adam(1e-2), optax.adam(1e-2), critic_steps=3)
    state = dl.init_state(task, optimizer, ring(jax.random.key(0)))
    step = jax.jit(dl.train_step(task, optimizer))
    moved = []
    for _ in range(6):
        new, _ = step(state, ring(jax.random.key(1)))
        same = {
            name: dl.digest(new.variables["params"][name]) == dl.digest(part)
            for name, part in state.variables["params"].items()
        }
        assert not same["discriminator"]
        moved.append(not same["generator"])
        state = new
    assert moved == [False, False, True, False, False, True]


def test_pictures_spectral_norm_and_batch_norm_live_in_the_state():
    task = adversarial(PICTURES, hinge)
    batch = {"image": jax.random.randint(jax.random.key(0), (8, 4, 4, 1), 0, 256)}
    optimizer = players(optax.adam(1e-3), optax.adam(1e-3))
    state = jax.jit(lambda batch: dl.init_state(task, optimizer, batch))(batch)
    new, metrics = jax.jit(dl.train_step(task, optimizer))(state, batch)
    stats = [s.variables["batch_stats"] for s in (state, new)]
    for player in ("generator", "discriminator"):
        assert dl.digest(stats[0][player]) != dl.digest(stats[1][player])
    assert jax.tree.structure(state.variables) == jax.tree.structure(new.variables)
    assert set(metrics) == {"loss", "discriminator", "generator", "real", "fake"}
    noise = {"noise": PICTURES.noise(jax.random.key(0), 2)}
    assert task.predict(new.variables, noise).shape == (2, 4, 4, 1)


def test_micro_batches_carry_the_statistics_on():
    task = adversarial(PICTURES, hinge)
    batch = {"image": jax.random.randint(jax.random.key(0), (8, 4, 4, 1), 0, 256)}
    optimizer = optax.sgd(0.1)
    state = jax.eval_shape(lambda batch: dl.init_state(task, optimizer, batch), batch)
    new = jax.eval_shape(dl.train_step(task, optimizer, micro_batches=2), state, batch)[0]
    assert jax.tree.structure(state) == jax.tree.structure(new)


def test_labels_condition_both_players():
    model = GAN(Generator((4, 4, 1), (8,), 3), Discriminator((4,), classes=3), latent=3)
    task = adversarial(model, label="label")
    batch = {"image": jnp.zeros((6, 4, 4, 1), jnp.uint8), "label": jnp.arange(6) % 3}
    variables = jax.jit(task.init)(jax.random.key(0), batch)
    grads = jax.jit(
        jax.grad(lambda p: task.loss({**variables, "params": p}, batch, jax.random.key(1))[0])
    )
    table = grads(variables["params"])
    assert jnp.abs(table["generator"]["Embed_0"]["embedding"]).max() > 0
    assert jnp.abs(table["discriminator"]["Embed_0"]["embedding"]).max() > 0
    assert task.columns == ("noise", "label")
    columns = {"noise": model.noise(jax.random.key(0), 2), "label": jnp.array([0, 2])}
    assert task.predict(variables, columns).shape == (2, 4, 4, 1)


def test_evaluation_depends_on_no_batching():
    task = adversarial(PICTURES, hinge)
    image = jax.random.randint(jax.random.key(0), (6, 4, 4, 1), 0, 256)
    variables = jax.jit(task.init)(jax.random.key(1), {"image": image})
    evaluate = jax.jit(task.evaluate)
    whole = evaluate(variables, {"image": image, "mask": jnp.array([1.0] * 4 + [0.0] * 2)})
    parts = M.merge(*(evaluate(variables, {"image": image[i : i + 2]}) for i in (0, 2)))
    for name in whole:
        np.testing.assert_allclose(whole[name].total, parts[name].total, rtol=1e-4)


def test_frechet_distance_of_two_normals():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(40000, 3)) * [1, 2, 3]
    b = rng.normal(size=(40000, 3)) * [2, 2, 1] + [1, 0, 0]
    assert abs(frechet_distance(a, b) - (1 + 1 + 0 + 4)) < 0.15
    assert frechet_distance(a, a) < 1e-8
