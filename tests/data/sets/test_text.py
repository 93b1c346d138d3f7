"""Corpora keep every line, and what is not one is named."""

import gzip
import json

import numpy as np
import pytest
from mistakes import raises

import dl.data
from dl.data.own.units import Units, encode


def _shakespeare(folder, text):
    (folder / "tinyshakespeare").mkdir()
    (folder / "tinyshakespeare" / "input.txt").write_text(text)


def test_the_published_parts_are_train_and_validation(tmp_path):
    _shakespeare(tmp_path, "abcdefghij" * 10)
    splits = dl.data.load("tinyshakespeare", tmp_path)
    assert "".join(splits.train["text"]) == "abcdefghij" * 9
    assert "".join(splits.validation["text"]) == "abcdefghij"
    assert splits.test == {}


def test_a_wish_for_validation_keeps_the_published_part_for_the_test(tmp_path):
    _shakespeare(tmp_path, "abcdefghij" * 10)
    splits = dl.data.load("tinyshakespeare", tmp_path, validation=20)
    assert splits.info.sizes == {"train": 70, "validation": 20, "test": 10}
    text = "".join(np.concatenate([splits.train["text"], splits.validation["text"]]))
    assert text == "abcdefghij" * 9


def test_a_bad_line_of_sst2_is_named(tmp_path):
    (tmp_path / "sst2").mkdir()
    for name in ("train", "dev", "test"):
        (tmp_path / "sst2" / f"{name}.tsv").write_text("good film\t1\nbad film\t2\n")
    with raises("file-damaged", "train.tsv, line 2"):
        dl.data.load("sst2", tmp_path)


def _multi30k(folder, **changes):
    (folder / "multi30k").mkdir()
    for part in ("train", "val", "test_2016_flickr"):
        for language in ("en", "de"):
            # NEL is no line break: str.splitlines() would cut such a sentence in two.
            lines = changes.get(language, ["one\x85still one", "two"])
            data = gzip.compress(("\n".join(lines) + "\n").encode())
            (folder / "multi30k" / f"{part}.{language}.gz").write_bytes(data)


def test_sentence_pairs_stay_pairs(tmp_path):
    _multi30k(tmp_path)
    splits = dl.data.load("multi30k", tmp_path)
    assert splits.train["en"].tolist() == ["one\x85still one", "two"]


def test_unequal_sides_are_an_error(tmp_path):
    _multi30k(tmp_path, de=["eins"])
    with raises("file-damaged", "train.en and train.de"):
        dl.data.load("multi30k", tmp_path)


@pytest.mark.data
def test_real_text_as_published(data_dir):
    text = dl.data.load("tinyshakespeare", data_dir).train["text"]
    assert "".join(text[:14]) == "First Citizen:"
    assert len(np.unique(text)) == 65
    pairs = dl.data.load("multi30k", data_dir).train
    assert pairs["en"][0] == "Two young, White males are outside near many bushes."
    assert pairs["de"][0] == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."


def test_phrases_that_are_a_sentence_to_judge_are_dropped(tmp_path):
    for folder in ("sst2", "sst2_phrases"):
        (tmp_path / folder).mkdir()
    for name in ("train", "dev", "test"):
        (tmp_path / "sst2" / f"{name}.tsv").write_text(f"a {name} film\t1\nnot a {name} film\t0\n")
    phrases = "sentence\tlabel\ngood \t1\na test film \t1\nnot a dev film\t0\nbad\t0\n"
    (tmp_path / "sst2_phrases" / "train.tsv.gz").write_bytes(gzip.compress(phrases.encode()))
    splits = dl.data.load("sst2_phrases", tmp_path)
    assert splits.train["text"].tolist() == ["good", "bad"]
    assert splits.train["label"].tolist() == [1, 0]
    assert splits.validation["text"].tolist() == ["a dev film", "not a dev film"]
    assert splits.test["text"].tolist() == ["a test film", "not a test film"]
    assert len(splits.info.digests) == 3


def test_questions_have_their_coarse_type(tmp_path):
    (tmp_path / "trec_questions").mkdir()
    lines = "".join(
        f"{kind} What ?\n" for kind in ("ABBR:exp", "DESC:def", "NUM:date", "LOC:city") * 5
    )
    for name in ("train", "test"):
        (tmp_path / "trec_questions" / f"{name}.txt.gz").write_bytes(gzip.compress(lines.encode()))
    splits = dl.data.load("trec_questions", tmp_path)
    assert splits.info.sizes == {"train": 18, "validation": 2, "test": 20}
    named = [splits.info.classes[label] for label in splits.test["label"][:4]]
    assert named == ["abbreviation", "description", "number", "location"]
    assert set(splits.test["text"]) == {"What ?"}


def test_brown_is_parted_by_its_words(tmp_path):
    (tmp_path / "brown").mkdir()
    lines = "".join(f"a b{n} .\n" + "\n" * (n % 50 == 0) for n in range(333_400))
    (tmp_path / "brown" / "brown.txt.gz").write_bytes(gzip.compress(lines.encode(), 1))
    splits = dl.data.load("brown", tmp_path)
    texts = ["".join(part["text"]) for part in splits.parts.values()]
    assert [len(text.split()) for text in texts] == [800_000, 200_000, 200]
    assert " ".join(" ".join(texts).split()) == " ".join(lines.split())
    assert splits.train["text"][:2].tolist() == ["a b0 .\n", "a b1 .\n"]
    encoded = encode(splits, Units("spaced", min_count=4))
    assert encoded.vocabulary.symbols == ("[UNK]", "[EOS]", "a", ".")
    assert encoded.splits.train["bytes"].sum() == sum(len(word) + 1 for word in texts[0].split())
    (tmp_path / "brown" / "brown.txt.gz").write_bytes(gzip.compress(b"a few words"))
    with raises("file-damaged", "3 words"):
        dl.data.load("brown", tmp_path)


def test_descriptions_and_their_synopses(tmp_path):
    (tmp_path / "debian_synopses").mkdir()
    for name in ("train", "validation", "test"):
        line = json.dumps({"package": "x", "text": f"A {name} tool.\nIt is.\n", "summary": name})
        file = tmp_path / "debian_synopses" / f"{name}.jsonl.gz"
        file.write_bytes(gzip.compress(f"{line}\n".encode()))
    splits = dl.data.load("debian_synopses", tmp_path)
    assert splits.validation["text"].tolist() == ["A validation tool.\nIt is.\n"]
    assert splits.test["summary"].tolist() == ["test"]
    file.write_bytes(gzip.compress(b'{"text": "no summary"}'))
    with raises("file-damaged", "summary"):
        dl.data.load("debian_synopses", tmp_path)
