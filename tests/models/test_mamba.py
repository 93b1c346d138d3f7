"""Mamba against the plain recurrence in NumPy, values and gradients; causality, documents, and its cache."""

import jax
import jax.numpy as jnp
import numpy as np
import slopes

from dl.core.target import Target, tracing_for
from dl.models import mamba
from dl.models.mamba import Mamba, selective_scan

MODEL = Mamba(states=3, window=3)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 4))
TELLS = RNG.normal(size=X.shape)  # what the gradients are of: these times the outputs


def scanned(x, step, decay, into, out, state, fresh):
    h, y = np.array(state), np.zeros_like(x)
    for t in range(x.shape[1]):
        h = np.exp(step[:, t, :, None] * decay) * h * (1 - fresh[:, t, None, None])
        h = h + (step[:, t] * x[:, t])[..., None] * into[:, t, None]
        y[:, t] = (h * out[:, t, None]).sum(-1)
    return y, h


def silu(x):
    return x / (1 + np.exp(-x))


def layer(x, p):
    """Sequentially, one row and place after the other."""
    y = np.zeros_like(x)
    inner = p["skip"].size
    for row, places in enumerate(x):
        h, before = np.zeros((inner, MODEL.states)), np.zeros((MODEL.window, inner))
        for t, place in enumerate(places):
            u, gate = np.split(place @ p["in"]["kernel"], 2)
            before = np.concatenate([before[1:], u[None]])
            u = silu((before * p["kernel"]).sum(0) + p["bias"])
            low, into, out = np.split(u @ p["select"]["kernel"], [1, 1 + MODEL.states])
            step = np.log1p(np.exp(low @ p["step"]["kernel"] + p["step"]["bias"]))[:, None]
            h = np.exp(-step * np.exp(p["decay"]).reshape(h.shape)) * h + step * u[:, None] * into
            y[row, t] = ((h @ out + p["skip"] * u) * silu(gate)) @ p["out"]["kernel"]
    return y


def params_of():
    params = jax.jit(MODEL.init)(jax.random.key(0), jnp.ones((1, 3, 4)))["params"]
    return jax.tree.map(lambda p: p + 0.2 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)


@jax.jit
def run(params, x):
    return MODEL.apply({"params": params}, x)[0]


def test_the_layer_and_its_gradients_are_those_of_the_recurrence():
    given = {"params": params_of(), "x": jnp.asarray(X, jnp.float32)}
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), given)
    np.testing.assert_allclose(run(**given), layer(exact["x"], exact["params"]), atol=1e-5)
    gradients = jax.grad(lambda given: jnp.sum(TELLS * run(**given)))(given)
    slopes.agree(lambda g: np.sum(TELLS * layer(g["x"], g["params"])), given, gradients)


def test_chunks_of_an_accelerator_give_the_same(monkeypatch):
    monkeypatch.setattr(mamba, "CHUNK", 4)
    shapes = {
        "x": (2, 6, 3),
        "step": (2, 6, 3),
        "decay": (3, 2),
        "into": (2, 6, 2),
        "out": (2, 6, 2),
    }
    given = {name: RNG.normal(size=shape) for name, shape in shapes.items()}
    given["step"], given["decay"] = np.abs(given["step"]), -np.abs(given["decay"])
    given["state"], fresh = (
        RNG.normal(size=(2, 3, 2)),
        np.array([[0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]]),
    )

    def both(scan, given):
        y, last = scan(**given, fresh=fresh)
        return (y**2).sum() + (last**3).sum()

    with tracing_for(Target("gpu")):
        found = jax.jit(lambda given: selective_scan(**given, fresh=fresh))(given)
        gradients = jax.jit(jax.grad(lambda given: both(selective_scan, given)))(given)
    for ours, theirs in zip(found, scanned(**given, fresh=fresh), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    slopes.agree(lambda given: both(scanned, given), given, gradients)


def test_what_comes_later_changes_nothing_before():
    params, x = params_of(), jnp.asarray(X, jnp.float32)
    changed = run(params, x.at[:, 3:].add(1.0))
    np.testing.assert_array_equal(changed[:, :3], run(params, x)[:, :3])
    assert (changed[:, 3:] != run(params, x)[:, 3:]).any()


def test_a_cache_goes_on_and_documents_stay_apart():
    params, x = {"params": params_of()}, jnp.asarray(X, jnp.float32)
    whole = run(params["params"], x)
    cache, pieces = MODEL.initial_cache(2, 2, 4), []
    for start, end in ((0, 1), (1, 2), (2, 5)):
        y, cache, _ = MODEL.apply(params, x[:, start:end], cache=cache, layer=1)
        pieces.append(y)
    np.testing.assert_allclose(jnp.concatenate(pieces, 1), whole, atol=1e-5)
    document = np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 1]])
    mask = jnp.asarray(document[:, None, :, None] == document[:, None, None])
    apart = MODEL.apply(params, x, mask=mask)[0]
    np.testing.assert_allclose(apart[0, 2:], run(params["params"], x[:1, 2:])[0], atol=1e-5)
    np.testing.assert_allclose(apart[1, :4], whole[1, :4], atol=1e-5)
