"""Sampling and search: the distributions they draw from, cache against whole text, beam against brute force."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.models.generation import beam_search, begin, extend, generate, sample_token, stream
from dl.models.language import LanguageModel
from dl.models.mamba import Mamba
from dl.models.rnn import RNN, RecurrentLanguageModel
from dl.models.transformer import Transformer

KEY = jax.random.key(0)
TRANSFORMER = LanguageModel(7, Transformer(8, 1, 2, causal=True), positions=16)
MAMBA = LanguageModel(7, Transformer(8, 2, 2, causal=True, mixer=Mamba))
RECURRENT = RecurrentLanguageModel(7, RNN(8))
PROMPT = jnp.array([[1, 2, 3], [4, 5, 6]])


@functools.cache
def variables_of(model):
    variables = jax.jit(model.init)(jax.random.key(1), PROMPT)
    return jax.tree.map(lambda p: 3 * p, variables)  # confident enough to differ from uniform


def shares(**options):
    logits = jnp.log(jnp.array([0.5, 0.25, 0.15, 0.1]))
    draw = jax.jit(lambda k: sample_token(k, jnp.tile(logits, (4000, 1)), **options))
    return np.bincount(np.asarray(draw(KEY)), minlength=4) / 4000


def test_plain_sampling_has_the_model_s_distribution():
    np.testing.assert_allclose(shares(), [0.5, 0.25, 0.15, 0.1], atol=0.03)


def test_temperature_sharpens_and_zero_is_greedy():
    squared = np.array([0.5, 0.25, 0.15, 0.1]) ** 2
    np.testing.assert_allclose(shares(temperature=0.5), squared / squared.sum(), atol=0.03)
    np.testing.assert_array_equal(shares(temperature=0.0), [1, 0, 0, 0])
    np.testing.assert_array_equal(shares(temperature=jnp.float32(0.0)), [1, 0, 0, 0])


def test_top_k_keeps_k():
    np.testing.assert_allclose(shares(top_k=2), [2 / 3, 1 / 3, 0, 0], atol=0.03)


def test_top_p_keeps_the_nucleus():
    np.testing.assert_allclose(shares(top_p=0.6), [2 / 3, 1 / 3, 0, 0], atol=0.03)
    # Traced, 0 leaves the likeliest; typed, it is refused (tests/cli/test_ranges.py).
    np.testing.assert_array_equal(shares(top_p=jnp.float32(0.0)), [1, 0, 0, 0])
    np.testing.assert_allclose(shares(top_p=1.0), [0.5, 0.25, 0.15, 0.1], atol=0.03)


@pytest.mark.parametrize("model", [TRANSFORMER, RECURRENT, MAMBA])
def test_greedy_writing_is_what_the_whole_text_says(model):
    variables = variables_of(model)
    written = generate(model, variables, PROMPT, 6, key=KEY, temperature=0.0)
    text = jnp.concatenate([PROMPT, written], axis=1)
    logits, _ = jax.jit(model.apply)(variables, text)
    np.testing.assert_array_equal(jnp.argmax(logits[:, 2:-1], -1), written)


@pytest.mark.parametrize("chunk", [1, 4])
def test_streaming_writes_the_same_whatever_the_chunk(chunk):
    options = {"key": KEY, "top_k": 5, "top_p": 0.9, "temperature": 0.8}
    whole = generate(RECURRENT, variables_of(RECURRENT), PROMPT, 10, **options)
    pieces = stream(RECURRENT, variables_of(RECURRENT), PROMPT, 10, chunk=chunk, **options)
    np.testing.assert_array_equal(jnp.concatenate(list(pieces), axis=1), whole)


def test_nothing_follows_the_stop_token():
    options = {"key": KEY, "temperature": 1.5, "stop": 2, "pad": 0}
    tokens = np.asarray(
        generate(RECURRENT, variables_of(RECURRENT), jnp.tile(PROMPT, (8, 1)), 12, **options)
    )
    ended = (tokens == 2).cumsum(1) - (tokens == 2) > 0
    assert ended.any()
    assert (tokens[ended] == 0).all()
    pieces = list(stream(RECURRENT, variables_of(RECURRENT), PROMPT, 99, chunk=4, **options))
    assert sum(piece.shape[1] for piece in pieces) < 99


def test_writing_is_compiled_once():
    from dl.models import generation as sampling

    variables = variables_of(RECURRENT)
    generate(RECURRENT, variables, PROMPT, 6, key=KEY, temperature=0.7)
    before = sampling._write._cache_size()
    generate(RECURRENT, variables, PROMPT + 0, 6, key=jax.random.key(9), temperature=0.3)
    assert sampling._write._cache_size() == before


def test_mistakes_are_named():
    with raises("text-too-long", "17 tokens", "16 positions"):
        generate(TRANSFORMER, variables_of(TRANSFORMER), PROMPT, 14, key=KEY)
    with raises("prompt-empty"):
        generate(RECURRENT, variables_of(RECURRENT), PROMPT[:, :0], 4, key=KEY)


# A Markov chain as the model: the carry is unused, logits depend on the last token and the place.
def chain(seed, places=4, vocabulary=5):
    table = 2.0 * jax.random.normal(jax.random.key(seed), (places + 1, vocabulary, vocabulary))

    def step(tokens, carry):
        (place,) = carry
        return table[place][tokens], (place + 1,)

    def score(row, penalty, stop):
        total, last = 0.0, 0
        for place, token in enumerate(row):
            total += float(jax.nn.log_softmax(table[place, last])[token])
            last = token
        return total / ((5 + len(row)) / 6) ** penalty

    logits, carry = step(jnp.zeros((1, 1), int), (0,))
    return step, logits, carry, score


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_best_of_all_rows(seed):
    step, logits, (place,), score = chain(seed)
    rows = [
        row
        for length in range(1, 5)
        for row in itertools.product(range(5), repeat=length)
        if row[-1] == 1 and 1 not in row[:-1]
    ]
    best = max(rows, key=lambda row: score(row, 0.0, 1))
    search = jax.jit(
        lambda: beam_search(
            step,
            logits[:, -1],
            (jnp.asarray(place),),
            4,
            beams=125,
            stop=1,
            length_penalty=0.0,
            pad=9,
        )
    )
    tokens, value = search()
    assert tuple(t for t in np.asarray(tokens[0]) if t != 9) == best
    np.testing.assert_allclose(value[0], score(best, 0.0, 1), rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_one_beam_is_greedy(seed):
    step, logits, (place,), _ = chain(seed)
    carry = (jnp.asarray(place),)
    found, _ = beam_search(step, logits[:, -1], carry, 4, beams=1, stop=1)
    greedy, _ = extend(
        step, begin(logits, carry), 4, lambda logits, _: jnp.argmax(logits, -1), stop=1
    )
    np.testing.assert_array_equal(found, greedy)


def test_a_longer_row_gains_from_the_length_penalty():
    # Stopping at once costs log 0.5; going on costs log 0.45 once, then nothing.
    first = jnp.log(jnp.array([[0.05, 0.5, 0.45]]))
    sure = jnp.array([[-50.0, 0.0, -50.0]])

    def step(tokens, carry):
        return jnp.tile(sure, (tokens.shape[0], 1))[:, None], carry

    short, _ = beam_search(step, first, (), 3, beams=2, stop=1, length_penalty=0.0)
    long, _ = beam_search(step, first, (), 3, beams=2, stop=1, length_penalty=2.0)
    np.testing.assert_array_equal(short[0], [1, 0, 0])
    np.testing.assert_array_equal(long[0], [2, 1, 0])


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("beams", [1, 3])
def test_no_tokens_come_again_in_the_same_order(size, beams):
    # Of these tokens, 2 and 3 are by far the likeliest for ever; the stop is the least likely.
    sure = jnp.log(jnp.array([[0.01, 1e-6, 0.5, 0.4, 0.06, 0.03]]))

    def step(tokens, carry):
        return jnp.tile(sure, (tokens.shape[0], 1))[:, None], carry

    def found(no_repeat):
        return beam_search(step, sure, (), 5, beams=beams, stop=1, no_repeat=no_repeat)[0][0]

    assert found(0).tolist() == [2] * 5
    row = found(size).tolist()
    grams = [tuple(row[n : n + size]) for n in range(6 - size)]
    assert len(set(grams)) == len(grams)
    if beams == 1:  # the likeliest that is free, by hand
        assert row == {1: [2, 3, 4, 5, 0], 2: [2, 2, 3, 2, 4], 3: [2, 2, 2, 3, 2]}[size]
