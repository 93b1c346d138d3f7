"""Sets that the datasets library saved, opened without a network."""

from types import SimpleNamespace

import pytest
from mistakes import raises

from dl.data import open as open_data
from dl.data.own import hub


@pytest.fixture
def datasets():
    return pytest.importorskip("datasets")


def reviews(datasets, count):
    features = {
        "id": datasets.Value("int64"),
        "sentence": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["worse", "better"]),
    }
    rows = {
        "id": list(range(count)),
        "sentence": [f"film {n} says {n % 2}" for n in range(count)],
        "label": [n % 2 for n in range(count)],
    }
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def test_splits_and_class_names_are_kept(datasets, tmp_path):
    sets = {"train": reviews(datasets, 20), "validation": reviews(datasets, 4)}
    sets |= {"test": reviews(datasets, 6), "unsupervised": reviews(datasets, 3)}
    datasets.DatasetDict(sets).save_to_disk(tmp_path / "set")
    splits = open_data(f"hf:{tmp_path}/set", "texts")
    assert splits.info.sizes == {"train": 20, "validation": 4, "test": 6}
    assert splits.info.classes == ("better", "worse")
    for text, label in zip(splits.train["text"], splits.train["label"], strict=True):
        assert text.endswith("01"[splits.info.classes[label] == "better"])
    assert "split unsupervised" in {line.name for line in splits.info.details["lines"]}
    (digest,) = splits.info.digests.values()
    assert len(digest) == 64


def test_one_split_is_cut(datasets, tmp_path):
    reviews(datasets, 20).save_to_disk(tmp_path / "set")
    splits = open_data(f"hf:{tmp_path}/set", "texts", hold_out=(0.1, 0.2))
    assert splits.info.sizes == {"train": 14, "validation": 2, "test": 4}
    text = open_data(f"hf:{tmp_path}/set", "corpus")
    assert "".join(text.train["text"]).startswith("film 0 says 0\nfilm 1")


def test_pairs_of_nested_columns(datasets, tmp_path):
    rows = [{"translation": {"en": f"word {n}", "is": f"orð {n}"}} for n in range(10)]
    datasets.DatasetDict(train=datasets.Dataset.from_list(rows)).save_to_disk(tmp_path / "set")
    splits = open_data(f"hf:{tmp_path}/set", "pairs", source="is", target="en")
    assert splits.info.details["languages"] == ("is", "en")
    assert splits.train["source"][0].startswith("orð")


def test_tables(datasets, tmp_path):
    rows = {"age": [20 + n for n in range(40)], "town": ["Oslo", "Bergen"] * 20}
    rows["repaid"] = ["yes", "yes", "no", "no"] * 10
    parts = {name: datasets.Dataset.from_dict(rows) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    splits = open_data(f"hf:{tmp_path}/set", "table", target="repaid")
    assert splits.info.classes == ("no", "yes")
    assert splits.info.sizes["test"] == 40


def test_mistakes_are_one_line(datasets, tmp_path):
    with raises("hub-unreadable", f"hf:{tmp_path}"):
        open_data(f"hf:{tmp_path}", "texts")
    sounds = datasets.Dataset.from_dict({"audio": [b"x"], "label": [0]})
    sounds = sounds.cast_column("audio", datasets.Audio(decode=False))
    sounds.save_to_disk(tmp_path / "set")
    with raises("hub-not-a-table", "audio", "a folder for each class"):
        open_data(f"hf:{tmp_path}/set", "texts")


def test_the_library_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with raises("package-missing", "datasets", ".[hub]"):
        open_data(f"hf:{tmp_path}", "texts")


@pytest.mark.parametrize("name", ["somebody/reviews", "."])
def test_a_library_that_would_run_a_set_s_script_opens_none(name):
    old = SimpleNamespace(__version__="3.6.0")  # which is asked for nothing else
    with raises("hub-unreadable", name, "datasets 3.6.0 runs the scripts", "datasets 4 or newer"):
        hub._load(old, name)
