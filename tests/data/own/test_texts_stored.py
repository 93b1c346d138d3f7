"""Texts and pairs too large for memory: the same rows, tokens, batches and runs from disk as in memory."""

import json
from pathlib import Path

import numpy as np
import pytest
from mistakes import raises

import dl
from dl.baselines.text import text_baselines
from dl.baselines.word_by_word import translation_baselines
from dl.data import tokenized as tokens
from dl.data.batches.buckets import BucketStream, bucket_batches
from dl.data.own import stored, texts
from dl.data.own.stored import StoredText
from dl.data.readers import on_disk
from dl.data.tokenizers import counted, spaced, train_subwords
from dl.runs.scripts import load_script

FOLDER = Path(__file__).parents[3] / "experiments"
ROWS = [
    (f"Film {n}, by {'Ä' * (n % 4)}nna: " + "very " * (n % 7) + "long", "good" if n % 3 else "bad")
    for n in range(400)
]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    for module, name, size in (
        (stored, "BLOCK", 500),
        (on_disk, "_BLOCK", 2**12),
        (tokens, "ROWS", 37),
        (texts, "_AT_ONCE", 41),
    ):
        monkeypatch.setattr(module, name, size)


def same(source, kind, **options):
    """Both ways to open ``source`` agree in all that is said but for the line about memory."""
    whole, disk = (dl.data.open(source, kind, stream=stream, **options) for stream in (False, True))
    for name, columns in whole.parts.items():
        for column, values in columns.items():
            found = disk.parts[name][column]
            assert isinstance(found, StoredText) == (values.dtype == object)
            assert list(found) == list(values)
    lines, others = (
        [line for line in splits.info.details["lines"] if line.name not in ("memory", "check")]
        for splits in (whole, disk)
    )
    assert lines == others
    return whole, disk


def write(folder, form):
    """The texts with their classes in one of the ways that people keep them."""
    if form == "folders":
        for n, (text, label) in enumerate(ROWS):
            (folder / label).mkdir(exist_ok=True)
            (folder / label / f"{n}.txt").write_text(text)
        return folder
    if form == "lines":
        for label in ("good", "bad"):
            mine = "\n".join(text for text, own in ROWS if own == label)
            (folder / f"{label}.txt").write_text(mine + "\n")
        return folder
    path = folder / f"a.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in ROWS))
    elif form == "tsv":
        quoted = [(f'"{t}"' if n % 5 else '"" and ""', y) for n, (t, y) in enumerate(ROWS)]
        path.write_text("".join(f"{t}\t{y}\n" for t, y in quoted))
    else:
        held = [(t, y if n % 9 else "") for n, (t, y) in enumerate(ROWS)]
        path.write_text("text,label\n" + "".join(f'"{t}",{y}\n' for t, y in held))
    return path


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "folders", "lines"])
def test_texts_of_any_form_are_those_in_memory(tmp_path, form):
    whole, disk = same(write(tmp_path, form), "texts")
    found = []
    for splits in (whole, disk):
        vocabulary = counted("word", map(spaced, splits.train["text"]), min_count=2)
        cut = tokens.tokenized(splits, vocabulary, most=9, prepare=spaced)
        found.append((vocabulary, cut))
    assert found[0][0] == found[1][0]
    for name, columns in found[0][1].parts.items():
        for column, values in columns.items():
            np.testing.assert_array_equal(found[1][1].parts[name][column], values, strict=True)
    assert isinstance(found[1][1].train["tokens"], np.memmap)
    resident, streamed = (
        bucket_batches(splits.train, "tokens_length", 16, 3) for _, splits in found
    )
    assert isinstance(streamed, BucketStream)
    assert streamed.digest() == resident.digest()
    for step in (0, 1, 20, 70):
        for column, values in streamed[step].items():
            np.testing.assert_array_equal(values, resident[step][column])
    assert text_baselines(disk) == text_baselines(whole)


@pytest.mark.parametrize("form", ["files", "csv"])
def test_pairs_are_those_in_memory(tmp_path, form):
    pairs = [(text, text[::-1] if n % 50 else "") for n, (text, _) in enumerate(ROWS)]
    if form == "csv":
        path = tmp_path / "a.csv"
        path.write_text("en,xx\n" + "".join(f'"{a}","{b}"\n' for a, b in pairs))
    else:
        path = tmp_path
        for place, name in enumerate(("train.en", "train.xx")):
            lines = "\r\n".join(pair[place] for pair in pairs)
            (tmp_path / name).write_text(lines + "\r\n", newline="")
    whole, disk = same(path, "pairs")
    learned = [
        train_subwords(tokens.both_sides(splits.train), "bpe", 300) for splits in (whole, disk)
    ]
    assert learned[0].to_str() == learned[1].to_str()
    cut = [tokens.tokenized_pairs(splits, learned[0], 20) for splits in (whole, disk)]
    for name, columns in cut[0].parts.items():
        for column, values in columns.items():
            found = cut[1].parts[name][column]
            if column == "written":
                assert list(found) == list(values)
            else:
                np.testing.assert_array_equal(found, values, strict=True)
    assert translation_baselines(disk) == translation_baselines(whole)


@pytest.mark.parametrize("name", ["sentiment", pytest.param("translation", marks=pytest.mark.slow)])
def test_a_run_from_disk_has_the_bits_of_one_in_memory(tmp_path, name):
    root = tmp_path / "data"
    root.mkdir()
    if name == "sentiment":
        small = {"embedding": 8, "features": 4}
    else:
        small = {"width": 16, "layers": 1, "heads": 2, "hidden": 16, "vocabulary": 300, "beams": 1}
        small["sizes"] = ()  # else a compiled branch for each
    if name == "sentiment":
        data = write(root, "csv")
    else:
        data = root / "a.csv"
        data.write_text("en,xx\n" + "".join(f'"{t}","{t[::-1]}"\n' for t, _ in ROWS))
    config, build = load_script(FOLDER / f"{name}.py")
    digests = []
    for stream in (False, True):
        own = config(data=str(data), stream=stream, steps=3, batch_size=16, **small)
        run = dl.train(build, own, runs=tmp_path, name=f"{name}{stream}", progress=False)
        digests.append(run.result["digest"])
        assert np.isfinite(run.metrics["test/loss"])
    assert digests[0] == digests[1] != ""


def test_a_frame_is_in_memory_and_texts_above_a_quarter_of_it_are_not(tmp_path, monkeypatch):
    import pandas

    frame = pandas.DataFrame(ROWS, columns=["text", "label"])
    with raises("option-misplaced", "--stream", "frame"):
        dl.data.open(frame, "texts", stream=True)
    monkeypatch.setattr("dl.data.own.pixels.host_memory", lambda: 10_000)
    splits = dl.data.open(write(tmp_path, "csv"), "texts")
    assert isinstance(splits.train["text"], StoredText)
