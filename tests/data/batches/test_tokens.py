"""Token batches: targets are one on, tracks go on from step to step, every target is scored once."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.data.batches.tokens import TokenFiles, crops, pack, packed_crops, strided, tracks


def test_crops_have_their_targets_one_on():
    batch = crops(np.arange(50), 8, 4, seed=1)[3]
    np.testing.assert_array_equal(batch["targets"], batch["inputs"] + 1)
    assert batch["inputs"].shape == (4, 8)


def test_very_many_crops_are_cut_to_whole_batches():
    tokens = np.lib.stride_tricks.as_strided(np.zeros(1, np.int32), (2**26,), (0,))
    windows = crops(tokens, 8, 96)
    assert windows.size == (2**26 - 8) // 96 * 96
    rows = np.asarray(windows.indices(10**6))
    assert len(set(rows.tolist())) == 96
    assert rows.max() < windows.size


def test_packed_crops_know_their_documents():
    assert [x.size for x in pack([], end=3)] == [0, 0]
    tokens, documents = pack([[5, 6], [7], [8, 9, 10]], end=3)
    assert tokens.tolist() == [5, 6, 3, 7, 3, 8, 9, 10, 3]
    assert documents.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    batch = packed_crops(tokens, documents, 4, 5)[0]
    where = {tuple(tokens[i : i + 4]): documents[i : i + 4].tolist() for i in range(5)}
    for inputs, document in zip(batch["inputs"], batch["document"], strict=True):
        assert document.tolist() == where[tuple(inputs.tolist())]


def test_tracks_go_on_where_they_stopped_and_reset_at_each_epoch():
    batches = tracks(np.arange(1000), 7, 5, seed=3)
    steps = batches.steps_per_epoch
    assert steps == 28
    draw = jax.jit(lambda b, s: b[s])
    previous, seen = None, []
    for step in range(2 * steps):
        batch = draw(batches, step)
        np.testing.assert_array_equal(batch["targets"], batch["inputs"] + 1)
        if step % steps == 0:
            assert batch["reset"].tolist() == [1.0] * 5
        else:
            assert batch["reset"].tolist() == [0.0] * 5
            np.testing.assert_array_equal(batch["inputs"][:, 0], previous["targets"][:, -1])
        previous = batch
        seen.append(np.asarray(batch["inputs"]).ravel())
    first, second = (np.concatenate(seen[e * steps : (e + 1) * steps]) for e in range(2))
    assert len(np.unique(first)) == len(first) == 5 * 7 * steps
    assert first.min() != second.min()  # each epoch starts at another place


def test_too_few_tokens_for_the_tracks():
    with raises("text-too-short"):
        tracks(np.arange(35), 7, 5)


def test_a_text_shorter_than_a_window_is_refused_wherever_it_lies(tmp_path):
    np.arange(9, dtype=np.uint16).tofile(tmp_path / "tokens")
    mapped = np.memmap(tmp_path / "tokens", np.uint16, "r")
    for tokens in (np.arange(9), mapped, TokenFiles((mapped, mapped))):
        assert crops(tokens, 8, 1)[0]["targets"].shape == (1, 8)
        with raises("text-too-short", "windows of 8 or less"):
            crops(tokens, 9, 1)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(2, 80), length=st.integers(1, 20), data=st.data())
def test_every_target_is_scored_exactly_once(count, length, data):
    stride = data.draw(st.integers(1, length))
    columns = strided(np.arange(count), length, stride)
    scored = columns["targets"][columns["weight"] > 0]
    np.testing.assert_array_equal(np.sort(scored), np.arange(1, count))
    real = columns["weight"] > 0
    np.testing.assert_array_equal(columns["inputs"][real] + 1, columns["targets"][real])


def test_strided_windows_give_context():
    columns = strided(np.arange(21), 8, 4)
    assert columns["inputs"][1].tolist() == list(range(4, 12))
    assert columns["weight"][1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
