"""Recurrent layers against PyTorch, with masks and carried state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dl.models.rnn import RNN, RecurrentLanguageModel, gru, lstm, recurrence, simple_rnn

CELLS = {"RNN": simple_rnn, "LSTM": lstm, "GRU": gru}


@functools.partial(jax.jit, static_argnums=0)
def init(model, x):
    return model.init(jax.random.key(1), x)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, *arguments, **keywords):
    return model.apply(*arguments, **keywords)


def in_torch(torch, name, model, params, inputs):
    """The PyTorch module with the same weights."""
    module = getattr(torch.nn, name)(
        inputs, model.features, model.layers, batch_first=True, bidirectional=model.bidirectional
    )
    for layer in range(model.layers):
        for direction, suffix in (("forward", ""), ("backward", "_reverse")):
            if f"{direction}_{layer}" in params:
                p = params[f"{direction}_{layer}"]
                values = {
                    "weight_ih": np.array(p["input"]["kernel"]).T,
                    "bias_ih": np.array(p["input"]["bias"]),
                    "weight_hh": np.array(p["kernel"]).T,
                    "bias_hh": np.array(p["bias"]),
                }
                for key, value in values.items():
                    getattr(module, f"{key}_l{layer}{suffix}").data = torch.tensor(value)
    return module


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(
    ("layers", "bidirectional", "shape"), [(1, False, (3, 7, 4)), (2, True, (2, 5, 3))]
)
def test_outputs_and_gradients_match_torch_with_masks(name, layers, bidirectional, shape):
    torch = pytest.importorskip("torch")
    model = RNN(6, CELLS[name], layers, bidirectional)
    batch, time, inputs = shape
    x = jax.random.normal(jax.random.key(0), shape)
    lengths = np.arange(time, time - batch, -1)
    mask = jnp.asarray(np.arange(time) < lengths[:, None], jnp.float32)
    params = init(model, x)["params"]
    params = jax.tree.map(lambda p: p + 0.1, params)  # so that no bias is zero

    def run(params, x):
        out, carry = apply(model, {"params": params}, x, mask)
        return jnp.sum(jnp.sin(out)) + jnp.sum(carry**2), (out, carry)

    gradient = jax.jit(jax.grad(run, argnums=(0, 1), has_aux=True))
    (grads, dx), (out, carry) = gradient(params, x)

    module = in_torch(torch, name, model, params, inputs)
    tx = torch.tensor(np.array(x), requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(tx, lengths, batch_first=True)
    outputs, last = module(packed)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(
        outputs, batch_first=True, total_length=time
    )
    last = torch.cat(last, -1) if name == "LSTM" else last
    (torch.sin(expected).sum() + (last**2).sum()).backward()

    np.testing.assert_allclose(out, expected.detach(), atol=1e-5)
    np.testing.assert_allclose(carry, last.detach(), atol=1e-5)
    np.testing.assert_allclose(dx, tx.grad, atol=1e-4)
    for layer in range(layers):
        got, suffix = grads[f"forward_{layer}"], f"_l{layer}"
        pairs = {
            "weight_ih": got["input"]["kernel"].T,
            "weight_hh": got["kernel"].T,
            "bias_ih": got["input"]["bias"],
            "bias_hh": got["bias"],
        }
        for key, value in pairs.items():
            np.testing.assert_allclose(value, getattr(module, key + suffix).grad, atol=2e-4)


@pytest.mark.parametrize("cell", CELLS.values())
def test_gradient_agrees_with_finite_differences(cell):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        kernel = rng.normal(size=(3, cell.gates * 3)) * 0.5
        bias = rng.normal(size=(cell.gates * 3,)) * 0.1
        x = rng.normal(size=(4, 2, cell.gates * 3))
        states = tuple(rng.normal(size=(cell.states, 2, 3)))
        mask = jnp.array([[1, 1], [1, 0], [0, 1], [1, 1]], jnp.float64)

        def run(kernel, bias, x, states):
            out, last = recurrence(cell, kernel, bias, x, mask, states)
            return jnp.sum(jnp.sin(out)) + sum(jnp.sum(s**2) for s in last)

        check_grads(jax.jit(run), (kernel, bias, x, states), order=1, modes=["rev"], eps=1e-5)


@pytest.mark.parametrize("cell", CELLS.values())
def test_second_derivatives_exist(cell):
    model = RNN(3, cell)
    x = jax.random.normal(jax.random.key(0), (2, 4, 3))
    variables = init(model, x)

    def slope(x):
        return jnp.sum(jax.grad(lambda x: jnp.sum(apply(model, variables, x)[0] ** 2))(x) ** 2)

    assert np.isfinite(jax.jit(jax.grad(slope))(x)).all()


@pytest.mark.parametrize("cell", CELLS.values())
def test_a_carried_state_makes_two_pieces_one(cell):
    model, cut = RNN(4, cell, layers=2), 2
    x = jax.random.normal(jax.random.key(0), (2, 6, 3))
    variables = init(model, x)
    whole, end = apply(model, variables, x)
    first, carry = apply(model, variables, x[:, :cut])
    second, carry = apply(model, variables, x[:, cut:], None, carry)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-6)
    np.testing.assert_allclose(carry, end, atol=1e-6)


def test_what_padding_holds_changes_nothing():
    model = RNN(4, lstm, bidirectional=True)
    x = jax.random.normal(jax.random.key(0), (2, 6, 3))
    mask = jnp.array([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    variables = init(model, x)
    clean, _ = apply(model, variables, x, mask)
    noisy, _ = apply(model, variables, jnp.where(mask[..., None] > 0, x, 99.0), mask)
    np.testing.assert_array_equal(clean, noisy)
    short, _ = apply(model, variables, x[1:, :2], mask[1:, :2])
    np.testing.assert_allclose(clean[1:, :2], short, atol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_language_model_carries_its_text(tied):
    model = RecurrentLanguageModel(11, RNN(8, gru, layers=2), tied=tied)
    tokens = jax.random.randint(jax.random.key(0), (3, 6), 0, 11)
    variables = init(model, tokens)
    whole, _ = apply(model, variables, tokens)
    carry, pieces = model.initial_carry(3), []
    for t in range(6):
        logits, carry = apply(model, variables, tokens[:, t : t + 1], carry=carry)
        pieces.append(logits)
    np.testing.assert_allclose(jnp.concatenate(pieces, 1), whole, atol=1e-5)


def test_half_precision_keeps_the_carry_in_float32():
    model = RNN(4, lstm)
    x = jnp.ones((2, 3, 5), jnp.bfloat16)
    variables = init(model, x.astype(jnp.float32))
    variables = jax.tree.map(lambda p: p.astype(jnp.bfloat16), variables)
    out, carry = apply(model, variables, x, None, model.initial_carry(2))
    assert out.dtype == jnp.bfloat16
    assert carry.dtype == jnp.float32
