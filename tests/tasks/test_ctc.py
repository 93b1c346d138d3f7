"""CTC: the loss against its definition, decoding, and the error counted inside the compiled step."""

import importlib.util
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.core.metrics import compute, merge
from dl.core.transforms import ensemble
from dl.models.spectrograms import speech_features
from dl.models.speech import BiLSTMEncoder, SpeechClassifier, SpeechRecognizer
from dl.scores.speech import word_error
from dl.tasks.ctc import ctc, decode, edit_distance, greedy_decode, prefix_beam_decode, spell
from dl.tasks.speech import speech_classification

RNG = np.random.default_rng(0)
BATCH = {
    "waveform": (RNG.normal(size=(4, 2400)) * 2000).astype(np.int16),
    "length": np.array([2400, 1600, 2000, 900], np.int32),
    "label": np.array([[0, 2, -1], [1, -1, -1], [2, 2, 0], [1, 0, -1]], np.int32),
}
KEY = jax.random.key(0)
DISTANCE = jax.jit(edit_distance)


def collapse(path):
    return tuple(c - 1 for c, _ in itertools.groupby(path) if c)


def strings(length=5):
    return st.lists(st.integers(0, 3), max_size=length)


def padded(tokens, size=8):
    return jnp.array([tokens + [-1] * (size - len(tokens))])


def test_token_error_is_jiwers_and_scores_do_not_depend_on_padding():
    task = ctc(SpeechRecognizer(BiLSTMEncoder(4, 1), 3), speech_features(mels=8))
    variables = jax.jit(task.init)(KEY, BATCH)
    logits, frames = jax.jit(task.predict)(variables, BATCH)
    evaluate = jax.jit(task.evaluate)
    whole = compute(evaluate(variables, BATCH))
    said = np.asarray(greedy_decode(logits, frames))
    truth, guess = ([spell(row, "abc") for row in rows] for rows in (BATCH["label"], said))
    if importlib.util.find_spec("jiwer"):
        assert whole["token_error"] == pytest.approx(word_error(truth, guess))
    first = {k: v[:3] for k, v in BATCH.items()}
    last = {k: np.concatenate([v[3:], v[:1]]) for k, v in BATCH.items()} | {
        "mask": np.array([1.0, 0.0])
    }
    cut = merge(evaluate(variables, first), evaluate(variables, last))
    assert compute(cut) == pytest.approx(whole, rel=1e-4)


def test_loss_is_the_sum_over_alignments():
    task = ctc(SpeechRecognizer(BiLSTMEncoder(4, 1, stack=4), 2), speech_features(mels=8))
    batch = {
        "waveform": BATCH["waveform"][:1, :1480],
        "length": np.array([1480]),
        "label": np.array([[0, 1]]),
    }
    variables = jax.jit(task.init)(KEY, batch)
    logits, frames = jax.jit(task.predict)(variables, batch)
    p = np.asarray(jax.nn.softmax(logits[0]))[: int(frames[0])]
    assert len(p) == 5
    paths = itertools.product(range(3), repeat=len(p))
    total = sum(np.prod(p[np.arange(len(p)), path]) for path in paths if collapse(path) == (0, 1))
    assert float(compute(jax.jit(task.evaluate)(variables, batch))["loss"]) == pytest.approx(
        -np.log(total), rel=1e-3
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=8, max_size=8), st.integers(1, 8))
def test_greedy_on_one_hot_is_the_collapsed_path(path, frames):
    logits = jax.nn.one_hot(jnp.array([path]), 4) * 50
    said = greedy_decode(logits, jnp.array([frames]))[0]
    assert tuple(int(t) for t in said if t >= 0) == collapse(path[:frames])
    assert (np.diff((np.asarray(said) >= 0).astype(int)) <= 0).all()  # padding only at the end


def test_decoding_of_many_reads_real_frames_alone():
    logits = np.random.default_rng(0).normal(size=(3, 6, 4)).astype(np.float32) * 5
    frames = np.array([6, 2, 4])
    cut = [decode(logits[i : i + 1, :n], frames[i : i + 1])[0] for i, n in enumerate(frames)]
    assert decode(logits, frames) == cut
    sure = [np.asarray(jax.nn.log_softmax(logits[i, :n])) for i, n in enumerate(frames)]
    assert decode(logits, frames, beam=8) == [prefix_beam_decode(row, 8)[0][0] for row in sure]


@pytest.mark.parametrize("beam", [1, 4])
def test_a_frame_of_nan_says_nothing(beam):
    logits = np.array(jax.nn.one_hot(jnp.array([[1, 1, 2, 0, 2]]), 3) * 50)
    logits[0, 2, 1] = np.nan  # the first of two 2s with a blank between
    assert decode(logits, np.array([5]), beam) == [[0, 1]]
    assert decode(np.full((2, 4, 3), np.nan), np.array([4, 2]), beam) == [[], []]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_a_wide_beam_finds_the_likeliest_string(seed):
    p = np.random.default_rng(seed).dirichlet(np.ones(3), 4)
    total: dict = {}
    for path in itertools.product(range(3), repeat=4):
        string = collapse(path)
        total[string] = total.get(string, 0.0) + np.prod(p[np.arange(4), path])
    found = prefix_beam_decode(np.log(p), beam=100)
    best = max(total, key=total.get)
    assert tuple(found[0][0]) == best
    for string, score in found:
        assert np.exp(score) == pytest.approx(total[tuple(string)])


@settings(max_examples=30, deadline=None)
@given(strings(), strings())
def test_edit_distance_is_levenshteins(a, b):
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, j in itertools.product(range(len(a) + 1), range(len(b) + 1)):
        table[i, j] = (
            i + j
            if not (i and j)
            else min(
                table[i - 1, j] + 1,
                table[i, j - 1] + 1,
                table[i - 1, j - 1] + (a[i - 1] != b[j - 1]),
            )
        )
    assert int(DISTANCE(padded(a), padded(b))[0]) == table[-1, -1]
    assert int(DISTANCE(padded(b), padded(a))[0]) == table[-1, -1]


def test_word_error_without_jiwer_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "jiwer", None)
    with raises("package-missing", "jiwer", "pip install -e '.[speech]'"):
        word_error(["a"], ["a"])


@pytest.mark.xfail(
    jax.__version_info__ < (0, 8),
    reason="jaxlib 0.7.2 on CPU evaluates it wrongly, while its compiled predictions are right",
    strict=True,
)
def test_speech_classification_learns_one_batch():
    import optax

    task = speech_classification(
        SpeechClassifier(BiLSTMEncoder(8, 1, dropout=0.0), 3), speech_features(mels=8)
    )
    batch = BATCH | {"label": np.array([0, 1, 2, 1], np.int32)}
    params = jax.jit(task.init)(KEY, batch)["params"]
    optimizer = optax.adam(0.02)

    @jax.jit
    def step(params, state, key):
        grads = jax.grad(lambda p: task.loss({"params": p}, batch, key)[0])(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for i in range(40):
        params, state = step(params, state, jax.random.fold_in(KEY, i))
    assert compute(task.evaluate({"params": params}, batch))["accuracy"] == 1.0
    # Its logits have a mean: members say the mean of their probabilities.
    twice = jax.tree.map(lambda x: jnp.stack([x, 2.0 * x]), {"params": params})
    given = {name: batch[name] for name in ("waveform", "length")}
    each = [task.predict(jax.tree.map(lambda x, i=i: x[i], twice), given) for i in (0, 1)]
    mean = np.mean([jax.nn.softmax(logits) for logits in each], 0)
    said = ensemble(task, 2).predict(twice, given)
    np.testing.assert_allclose(jax.nn.softmax(said), mean, rtol=1e-4, atol=1e-6)
