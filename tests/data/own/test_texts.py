"""Texts of the user's own, in every layout that people keep them in."""

import gzip
import json

import numpy as np
import pytest
from mistakes import raises

from dl.data import open as open_data

ROWS = [(f"film {n} is {'fine' if n % 3 else 'bad'}", "pos" if n % 3 else "neg") for n in range(30)]


def opened(data, **fields):
    """``(splits, {name: line})``, every text with its class as it was written."""
    splits = open_data(data, "texts", **fields)
    for part in splits.parts.values():
        assert part["label"].dtype == np.int32
        for text, label in zip(part["text"], part["label"], strict=True):
            assert dict(ROWS)[text] == splits.info.classes[label]
    return splits, {line.name: line for line in splits.info.details["lines"]}


def rows_of(splits):
    return sum(len(part["text"]) for part in splits.parts.values())


def csv(rows, mark=","):
    return "".join(f"{text}{mark}{label}\n" for text, label in rows)


def jsonl(rows):
    return "".join(json.dumps({"review": t, "stars": y, "id": 7}) + "\n" for t, y in rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,label\n" + csv(ROWS)),
        ("a.csv", "\ufeffClass;Review\r\n" + "".join(f"{y};{t}\r\n" for t, y in ROWS)),
        ("a.tsv", csv(ROWS, "\t")),
        ("a.TSV", "sentence\tlabel\n" + csv(ROWS, "\t")),
        ("a.jsonl", jsonl(ROWS)),
        ("a.json", json.dumps([{"text": t, "label": y} for t, y in ROWS])),
        ("a.txt", "".join(f"__label__{y} {t}\n" for t, y in ROWS)),
        ("a.txt", "".join(f"{y} {t}\n" for t, y in ROWS)),
    ],
)
def test_one_file(tmp_path, name, content):
    (tmp_path / name).write_text(content, newline="")
    splits, lines = opened(tmp_path / name)
    assert splits.info.classes == ("neg", "pos")
    assert lines["label"].more == "pos: 20, neg: 10"
    assert rows_of(splits) == 30
    assert list(splits.info.digests) == [name]


def test_files_by_part(tmp_path):
    for name, rows in (("train", ROWS[:20]), ("dev", ROWS[20:25]), ("test_gold", ROWS[25:])):
        (tmp_path / f"{name}.tsv.gz").write_bytes(gzip.compress(csv(rows, "\t").encode()))
    splits, _ = opened(tmp_path)
    assert splits.info.sizes == {"train": 20, "validation": 5, "test": 5}
    assert splits.validation["text"].tolist() == [text for text, _ in ROWS[20:25]]


def test_a_folder_of_files_a_class(tmp_path):
    for n, (text, label) in enumerate(ROWS):
        folder = tmp_path / ("test" if n > 19 else "train") / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{n}.txt").write_text(text + "\n")
    (tmp_path / "train" / "unsup").mkdir()
    (tmp_path / "train" / "unsup" / "1.txt").write_text("who knows")
    (tmp_path / "vocabulary.txt").write_text("film")
    splits, lines = opened(tmp_path)
    assert splits.info.sizes == {"train": 18, "validation": 2, "test": 10}
    assert {"unsup", "vocabulary.txt"} <= set(lines)
    splits, _ = opened(tmp_path / "train", hold_out=(0.2, 0.2))
    assert splits.info.sizes == {"train": 12, "validation": 4, "test": 4}


@pytest.mark.parametrize("name", ["{}.txt", "rt-polarity.{}", "train_{}.txt"])
def test_one_file_a_class(tmp_path, name):
    for label in ("pos", "neg"):
        lines = [text for text, y in ROWS if y == label]
        (tmp_path / name.format(label)).write_text("\r\n".join(lines) + "\r\n", newline="")
    (tmp_path / "README.md").write_text("about these")
    splits, _ = opened(tmp_path)
    assert splits.info.classes == ("neg", "pos")
    assert rows_of(splits) == 30


def test_a_frame_with_a_split_and_cells_missing():
    import polars

    frame = polars.DataFrame(
        {
            "note": [text for text, _ in ROWS] + ["lost", None],
            "verdict": [label for _, label in ROWS] + [None, "pos"],
            "split": (["train"] * 20 + ["val"] * 5 + ["test"] * 5) + ["train", "test"],
            "row": range(32),
        }
    )
    splits, lines = opened(frame)
    assert splits.info.sizes == {"train": 20, "validation": 5, "test": 5}
    assert lines["skipped"].more == "1 without a text, 1 without a label"
    assert lines["left out"].more == "row"
    assert lines["column split"].taken_for == "part"
    splits, _ = opened(frame, text="note", label="verdict", group="note")
    assert rows_of(splits) == 30


def test_numbers_are_classes_in_their_order(tmp_path):
    rows = "".join(f"a film of {n % 11} stars,{n % 11}\n" for n in range(44))
    (tmp_path / "a.csv").write_text("text,stars\n" + rows)
    classes = open_data(tmp_path / "a.csv", "texts").info.classes
    assert classes == tuple(map(str, range(11)))


def test_quotes_between_tabs_are_quotes(tmp_path):
    texts = ['"fine', 'he said "no', '"whole"', "plain", '"'] * 4
    (tmp_path / "a.tsv").write_text("".join(f"{t}\t{n % 2}\n" for n, t in enumerate(texts)))
    splits = open_data(tmp_path / "a.tsv", "texts", hold_out=(0.1, 0.0))
    assert set(splits.train["text"]) == set(texts)
    (tmp_path / "b.tsv").write_text('text\tlabel\n"a\tb"\t1\n"c ""d"""\t0\n' * 1 + "e\t1\nf\t0\n")
    splits = open_data(tmp_path / "b.tsv", "texts", hold_out=(0.0, 0.0))
    assert splits.train["text"].tolist() == ["a\tb", 'c "d"', "e", "f"]


def test_mistakes_are_one_line(tmp_path):
    path = tmp_path / "a.csv"

    def wrong(content, code, *words, **fields):
        path.write_text(content)
        with raises(code, *words):
            open_data(path, "texts", **fields)

    good = "text,label\n" + csv(ROWS)
    wrong(good, "column-unknown", "--label", "'labl'", "did you mean 'label'", label="labl")
    wrong(good, "column-unknown", "--text", "'x'", text="x")
    wrong("text,label\n" + "fine,pos\n" * 3, "target-one-class", "a.csv", "'pos'")
    several = "".join(f"film {n},y{n}\n" for n in range(9))
    wrong("text,label\n" + several, "target-too-many-classes", "9 different", "--label")
    wrong("text,id\n" + several, "target-unnamed", "--label", "text, id")
    two = "".join(f"film number {n},{n % 2},{n % 3}\n" for n in range(20))
    wrong("text,by,on\n" + two, "target-unnamed", "classes", "--label with one of by, on")
    wrong("a,b\n1,2\n3,4\n", "text-unnamed", "--text", "a, b")
    wrong("text,label\n,pos\n", "table-empty", "a.csv")
    wrong('{"text": "a", "label": 1}\n{"text": ', "json-unreadable", "a.csv, line 2")
    path.write_bytes(b"text,label\nfilm caf\xe9,pos\nfilm,neg\n")
    with raises("encoding", "a.csv", "cp1252"):
        open_data(path, "texts")
    assert "film café" in open_data(path, "texts", encoding="cp1252", hold_out=(0, 0)).train["text"]
    with raises("option-misplaced", "--label", "sst2"):
        open_data("sst2", "texts", label="x")
    folder = tmp_path / "many"
    folder.mkdir()
    for name in ("one.csv", "two.csv"):
        (folder / name).write_text(good)
    with raises("table-folder", "one.csv, two.csv", "train.csv"):
        open_data(folder, "texts")


def test_labels_that_begin_lines_are_told_from_all_files_together(tmp_path):
    def lines(rows):
        return "".join(f"{'ABCDEF'[n % 6]}:x{n % 30} Where is town {n}?\n" for n in rows)

    (tmp_path / "train.txt").write_text(lines(range(600)))
    (tmp_path / "test.txt").write_text(lines(range(40)))  # too few to tell 30 labels from words
    splits = open_data(tmp_path, "texts")
    assert len(splits.info.classes) == 30
    assert (len(splits.test["text"]), splits.test["text"][0]) == (40, "Where is town 0?")


def test_a_table_that_is_written_oddly_is_read_by_flags(tmp_path):
    (tmp_path / "a.csv").write_text("".join(f"{t}^{y}\n" for t, y in ROWS))
    splits, _ = opened(tmp_path / "a.csv", separator="^", headings=("review", "stars"))
    assert rows_of(splits) == 30


@pytest.mark.parametrize("mark", ["^", "|", "$", "."])
def test_a_mark_that_no_file_is_guessed_to_have_is_asked_for(tmp_path, mark):
    path = tmp_path / "a.csv"
    path.write_text(f"review{mark}verdict\n" + "".join(f"{t}{mark}{y}\n" for t, y in ROWS))
    if mark in "^$":
        with raises("table-separator", "one column", f"--separator '{mark}'"):
            open_data(path, "texts")
    assert rows_of(opened(path, separator=mark)[0]) == 30


def test_tabs_may_be_spelled_and_line_ends_are_no_mark(tmp_path):
    (tmp_path / "a.csv").write_text("text\tlabel\n" + csv(ROWS, "\t"))
    for spelled in ("\\t", "tab", "\t"):
        assert rows_of(opened(tmp_path / "a.csv", separator=spelled)[0]) == 30
    with raises("table-options", "end of a line"):
        open_data(tmp_path / "a.csv", "texts", separator="\n")


def test_a_column_of_texts_is_no_label(tmp_path):
    rows = "".join(f"film {n} was seen,note {n} of it,{n % 2}\n" for n in range(20))
    (tmp_path / "a.csv").write_text(f"text,note,kind\n{rows}")
    with raises("column-twice", "column text holds the texts", "--label"):
        open_data(tmp_path / "a.csv", "texts", label="text")
    with raises("target-too-many-classes", "note has 20", "--label, such as kind"):
        open_data(tmp_path / "a.csv", "texts", label="note")


@pytest.mark.parametrize("given", [".", "pos"])
def test_a_folder_of_one_class_asks_for_the_one_above(tmp_path, given):
    (tmp_path / "pos").mkdir()
    for n in range(6):
        (tmp_path / "pos" / f"{n}.txt").write_text(f"film {n}\n")
    with raises("target-one-class", "pos has 6 files of one text each", "the folder above"):
        open_data(tmp_path / given, "texts")


def test_one_column_cannot_be_texts_and_classes(tmp_path):
    rows = "".join(f"film number {n} was seen,{n % 2}\n" for n in range(20))
    (tmp_path / "a.csv").write_text(f"text,kind\n{rows}", "utf-8")
    with raises("column-twice", "kind", "--text"):
        open_data(tmp_path / "a.csv", "texts", text="kind", label="kind")
