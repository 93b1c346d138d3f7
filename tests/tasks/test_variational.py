"""The evidence bound against closed forms: a linear Gaussian model whose likelihood is known exactly."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from learning import learn

from dl.core import metrics as M
from dl.core.random import example_keys
from dl.models.mlp import MLP
from dl.models.vae import VAE
from dl.tasks.variational import bernoulli, gaussian, importance_nll, variational

SHAPE = (4,)
LINEAR = VAE(MLP((4,)), MLP((4,)), SHAPE)  # latent 2
SD = 0.7


def as_is(x):
    return x


def linear():
    x = jax.random.normal(jax.random.key(0), (5, 4))
    variables = jax.jit(LINEAR.init)(jax.random.key(1), x)
    # A posterior close to the prior covers all that matters, so sampling from it converges.
    params = variables["params"]
    params = {**params, "encoder": jax.tree.map(lambda p: 0.1 * p, params["encoder"])}
    return {"params": params}, x


def exact_nll(variables, x):
    """p(x) = N(b, W W' + sd^2), as decode(z) = W z + b and z is standard normal."""
    dense = variables["params"]["decoder"]["Dense_0"]
    w, b = np.asarray(dense["kernel"]).T, np.asarray(dense["bias"])
    cov = w @ w.T + SD**2 * np.eye(4)
    d = np.asarray(x) - b
    quadratic = np.einsum("ni,ij,nj->n", d, np.linalg.inv(cov), d)
    return 0.5 * (quadratic + np.linalg.slogdet(cov)[1] + 4 * np.log(2 * np.pi))


def test_importance_sampling_finds_the_exact_likelihood():
    variables, x = linear()
    keys = example_keys(jax.random.key(2), 5)
    estimate = jax.jit(lambda: importance_nll(LINEAR, gaussian(SD), variables, x, keys, 20000))()
    np.testing.assert_allclose(estimate, exact_nll(variables, x), atol=0.05)


def test_the_bound_holds_and_its_parts_add_up():
    variables, x = linear()
    task = variational(LINEAR, likelihood=gaussian(SD), inputs="x", prepare=as_is, importance=4000)
    metrics = M.compute(jax.jit(task.evaluate)(variables, {"x": jnp.tile(x, (200, 1))[:5]}))
    np.testing.assert_allclose(
        metrics["loss"], metrics["reconstruction"] + metrics["kl"], rtol=1e-5
    )
    assert metrics["loss"] > metrics["nll"] - 0.1
    np.testing.assert_allclose(metrics["nll"], exact_nll(variables, x).mean(), atol=0.1)


def test_divergence_and_likelihoods_match_torch():
    torch = pytest.importorskip("torch")
    D = torch.distributions
    variables, x = linear()
    mu, log_sd = LINEAR.apply(variables, x, method="encode")
    posterior = D.Normal(torch.tensor(np.array(mu)), torch.tensor(np.array(jnp.exp(log_sd))))
    expected = D.kl_divergence(posterior, D.Normal(0.0, 1.0)).sum(-1).mean()
    task = variational(LINEAR, likelihood=gaussian(SD), inputs="x", prepare=as_is)
    metrics = M.compute(jax.jit(task.evaluate)(variables, {"x": x}))
    np.testing.assert_allclose(metrics["kl"], expected, rtol=1e-4)

    logits = 2 * jax.random.normal(jax.random.key(3), (5, 4))
    bits = (x > 0).astype(jnp.float32)
    t = torch.tensor(np.array(logits))
    log_prob = D.Bernoulli(logits=t).log_prob(torch.tensor(np.array(bits))).sum(-1)
    np.testing.assert_allclose(bernoulli(logits, bits), log_prob, rtol=1e-5)
    log_prob = D.Normal(t, SD).log_prob(torch.tensor(np.array(x))).sum(-1)
    np.testing.assert_allclose(gaussian(SD)(logits, x), log_prob, rtol=1e-5)


def test_beta_weighs_the_divergence_in_training_alone():
    variables, x = linear()

    def loss(beta):
        task = variational(LINEAR, likelihood=gaussian(SD), inputs="x", prepare=as_is, beta=beta)
        return task.loss(variables, {"x": x}, jax.random.key(0))

    (half, aux), (double, _) = jax.jit(loss)(0.5), jax.jit(loss)(2.0)
    np.testing.assert_allclose(double - half, 1.5 * M.compute(aux.metrics)["kl"], rtol=1e-4)


def test_more_particles_tighten_the_bound():
    variables, x = linear()

    def loss(particles):
        task = variational(
            LINEAR, likelihood=gaussian(SD), inputs="x", prepare=as_is, particles=particles
        )
        many = {"x": jnp.tile(x, (100, 1))}
        return jax.jit(task.loss)(variables, many, jax.random.key(0))[0]

    exact = exact_nll(variables, x).mean()
    one, few, many = loss(1), loss(5), loss(300)
    assert one > few > many
    np.testing.assert_allclose(many, exact, atol=0.1)


def test_evaluation_depends_on_no_batching():
    model = VAE(MLP((8, 4)), MLP((8, 36)), (6, 6, 1))
    image = jax.random.randint(jax.random.key(0), (6, 6, 6, 1), 0, 256).astype(jnp.uint8)
    task = variational(model, binarize=True, importance=3)
    variables = jax.jit(task.init)(jax.random.key(1), {"image": image})
    evaluate = jax.jit(task.evaluate)
    whole = evaluate(variables, {"image": image, "mask": jnp.array([1.0] * 4 + [0.0] * 2)})
    parts = M.merge(*(evaluate(variables, {"image": image[i : i + 2]}) for i in (0, 2)))
    for name in whole:
        np.testing.assert_allclose(whole[name].total, parts[name].total, rtol=1e-5)


def test_it_learns_two_clusters():
    model = VAE(MLP((32, 4), nn.tanh), MLP((32, 16), nn.tanh), (16,))
    task = variational(model, inputs="x", prepare=as_is, importance=50)
    half = jnp.arange(16) < 8
    x = jnp.where((jnp.arange(64) % 2 == 0)[:, None] == half, 0.98, 0.02)
    state, *_ = learn(task, optax.adam(1e-2), {"x": x}, 200)
    metrics = M.compute(jax.jit(task.evaluate)(state.variables, {"x": x}))
    # One bit of which cluster, and 16 nearly certain values.
    entropy = -16 * (0.98 * np.log(0.98) + 0.02 * np.log(0.02))
    assert metrics["nll"] < np.log(2) + entropy + 0.5
    assert metrics["kl"] > 0.3
