"""The attention RNN against NumPy, step by step, values and gradients; and written with beams as it is read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import slopes

from dl.models.attention_rnn import AdditiveAttention, AttentionRNN
from dl.models.rnn import lstm
from dl.tasks.sequence_to_sequence import sequence_to_sequence

MODEL = AttentionRNN(9, 4, layers=2)
SOURCE = np.array([[4, 5, 6, 7], [8, 4, 0, 0]])
TARGET = np.array([[2, 5, 4], [2, 8, 7]])
RNG = np.random.default_rng(0)
TELLS = RNG.normal(size=(2, 3, 9))  # what the gradients are of: these times the logits


@functools.cache
def variables():
    params = jax.jit(MODEL.init)(jax.random.key(0), SOURCE, TARGET)["params"]
    near = lambda p: p + 0.2 * jnp.cos(jnp.arange(p.size)).reshape(p.shape)  # noqa: E731
    return {"params": jax.tree.map(near, params)}


def dense(x, p):
    return x @ p["kernel"] + p.get("bias", 0.0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(x, h, p):
    """One step of one row."""
    r, u, n = np.split(dense(x, p["input"]), 3)
    hr, hu, hn = np.split(h @ p["kernel"] + p["bias"], 3)
    u = sigmoid(u + hu)
    return (1 - u) * np.tanh(n + sigmoid(r + hr) * hn) + u * h


def attended(query, keys, values, p):
    scores = (np.tanh(dense(query, p["query"]) + keys) @ p["score"]["kernel"])[:, 0]
    weights = np.exp(scores - scores.max())
    return weights / weights.sum() @ values


def translated(p):
    """Logits, one row and one token after the other."""
    table, rows = p["embedding"]["embedding"], []
    for source, target in zip(SOURCE, TARGET, strict=True):
        x = table[source[source > 0]]
        for layer in range(2):
            ways = []
            for way, turn in (("forward", 1), ("backward", -1)):
                h, outputs = np.zeros(4), []
                for vector in x[::turn]:
                    h = gru(vector, h, p["encoder"][f"{way}_{layer}"])
                    outputs.append(h)
                ways.append(np.stack(outputs[::turn]))
            x = np.concatenate(ways, axis=1)
        ends = np.concatenate([ways[0][-1], ways[1][0]])
        asking, *above = np.tanh(dense(ends, p["begins"])).reshape(3, 4)
        keys = dense(x, p["keys"])
        for token in target:
            asking = gru(table[token], asking, p["asking"]["forward_0"])
            context = attended(asking, keys, x, p["attends"])
            h = np.concatenate([asking, context])
            for layer in range(2):
                h = above[layer] = gru(h, above[layer], p["answering"][f"forward_{layer}"])
            h = np.tanh(dense(np.concatenate([h, context]), p["before_output"]))
            rows.append(table @ h)
    return np.stack(rows).reshape(2, 3, 9)


def test_logits_and_gradients_are_those_of_steps_in_numpy():
    params = variables()["params"]

    @jax.jit
    def run(params):
        logits = MODEL.apply({"params": params}, SOURCE, TARGET)
        return jnp.sum(TELLS * logits), logits

    gradients, logits = jax.grad(run, has_aux=True)(params)
    exact = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    np.testing.assert_allclose(logits, translated(exact), atol=1e-5)
    slopes.agree(lambda p: np.sum(TELLS * translated(p)), params, gradients)


def test_attention_and_its_gradients_are_those_of_numpy():
    model, mask = AdditiveAttention(5), np.array([[1, 1, 1], [1, 1, 0]])
    shapes = {"query": (2, 2, 4), "keys": (2, 3, 5), "values": (2, 3, 6)}
    given = {name: RNG.normal(size=shape) for name, shape in shapes.items()}
    given["params"] = {
        name: {"kernel": RNG.normal(size=shape)}
        for name, shape in (("query", (4, 5)), ("score", (5, 1)))
    }
    tells = RNG.normal(size=(2, 2, 6))

    def plain(given):
        p, total = given["params"], 0.0
        for row, real in enumerate(mask.astype(bool)):
            for time, query in enumerate(given["query"][row]):
                found = attended(query, given["keys"][row, real], given["values"][row, real], p)
                total += (tells[row, time] * found).sum()
        return total

    def ours(given):
        arrays = given["query"], given["keys"], given["values"], mask
        return jnp.sum(tells * model.apply({"params": given["params"]}, *arrays)[0])

    value, gradients = jax.value_and_grad(ours)(jax.tree.map(jnp.float32, given))
    np.testing.assert_allclose(value, plain(given), atol=1e-5)
    slopes.agree(plain, given, gradients)


def test_what_it_writes_is_what_it_reads():
    task = sequence_to_sequence(MODEL, 4, beams=1, stop=1)
    written = jax.jit(task.predict)(variables(), {"source": SOURCE})
    whole = np.concatenate([TARGET[:, :1], written], axis=1)
    logits = np.asarray(MODEL.apply(variables(), SOURCE, whole[:, :-1]))
    ended = np.cumsum(written == 1, axis=1) - (written == 1) > 0
    assert (written == np.where(ended, 0, logits.argmax(-1))).all()
    looks = MODEL.attention(variables(), SOURCE[1], TARGET[1])
    assert looks.shape == (1, 3, 4)
    np.testing.assert_allclose(looks.sum(-1), 1.0, rtol=1e-6)
    assert (looks[..., 2:] == 0).all()  # padding


def test_cells_of_two_states_go_through_too():
    model = AttentionRNN(9, 4, cell=lstm)
    start = jax.eval_shape(model.init, jax.random.key(0), SOURCE, TARGET)
    task = sequence_to_sequence(model, 4, beams=2)
    assert jax.eval_shape(task.predict, start, {"source": jnp.asarray(SOURCE)}).shape == (2, 4)
