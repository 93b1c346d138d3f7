"""Pairs of texts of the user's own: two files of lines, or two columns of a table."""

import json

import pytest
from mistakes import raises

from dl.data import open as open_data

PAIRS = [(f"the {n} small cats", f"les {n} petits chats") for n in range(20)]


def check(splits, swapped=False):
    """Every source beside its own target."""
    for part in splits.parts.values():
        for pair in zip(part["source"], part["target"], strict=True):
            assert (pair[::-1] if swapped else pair) in PAIRS
    return splits


def write(folder, name, side, rows=PAIRS):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{pair[side]}\n" for pair in rows), encoding="utf-8")


@pytest.mark.parametrize(
    ("names", "languages"),
    [
        (("text.en", "text.fr"), ("en", "fr")),
        (("news.en.txt", "news.fr.txt"), ("en", "fr")),
        (("v7.fr-en.en", "v7.fr-en.fr"), ("en", "fr")),
        (("english/all.txt", "french/all.txt"), ("english", "french")),
        (("a.txt", "b.txt"), ("a", "b")),
    ],
)
def test_two_files_of_lines(tmp_path, names, languages):
    for side, name in enumerate(names):
        write(tmp_path, name, side)
    splits = check(open_data(tmp_path, "pairs"))
    told = {line.name: line for line in splits.info.details["lines"]}["direction"]
    assert (told.taken_for, told.more) == (
        " to ".join(languages),
        "proposed: --source names another",
    )
    assert splits.info.details["languages"] == languages
    assert splits.info.sizes == {"train": 16, "validation": 2, "test": 2}
    swapped = open_data(tmp_path, "pairs", source=languages[1])
    assert check(swapped, True).info.details["languages"] == languages[::-1]


def test_files_by_part_and_language(tmp_path):
    for name, rows in (("train", PAIRS[:10]), ("val", PAIRS[10:14]), ("test_2016", PAIRS[14:])):
        for side, language in enumerate(("en", "fr")):
            write(tmp_path, f"{name}.{language}", side, rows)
    splits = check(open_data(tmp_path, "pairs"))
    assert splits.info.sizes == {"train": 10, "validation": 4, "test": 6}
    write(tmp_path, "train.cs", 0, PAIRS[:10])
    with raises("pairs-files", "train.cs, train.en, train.fr", "--source and --target"):
        open_data(tmp_path, "pairs")


def test_two_files_side_by_side(tmp_path):
    write(tmp_path, "a.txt", 0)
    write(tmp_path, "b.txt", 1, PAIRS[:-1])
    write(tmp_path, "c.txt", 1)
    first = tmp_path / "a.txt"
    check(open_data(first, "pairs", target=str(tmp_path / "c.txt")))
    with raises("pairs-lengths", "a.txt has 20 lines", "b.txt 19"):
        open_data(first, "pairs", target=str(tmp_path / "b.txt"))
    with raises("pairs-files", "a.txt", "--target"):
        open_data(first, "pairs")


@pytest.mark.parametrize(
    ("name", "content", "languages"),
    [
        ("a.tsv", "".join(f"{a}\t{b}\tCC-BY 2.0\n" for a, b in PAIRS), ("column_1", "column_2")),
        ("a.csv", "id,en,fr\n" + "".join(f"{n},{a},{b}\n" for n, (a, b) in enumerate(PAIRS)), None),
        ("a.jsonl", "".join(json.dumps({"en": a, "fr": b}) + "\n" for a, b in PAIRS), None),
        (
            "a.jsonl",
            "".join(
                json.dumps({"id": "x", "translation": {"en": a, "fr": b}}) + "\n" for a, b in PAIRS
            ),
            None,
        ),
    ],
)
def test_tables(tmp_path, name, content, languages):
    (tmp_path / name).write_text(content, encoding="utf-8")
    splits = check(open_data(tmp_path / name, "pairs"))
    assert splits.info.details["languages"] == (languages or ("en", "fr"))
    if languages is None:
        splits = check(open_data(tmp_path / name, "pairs", source="fr", target="en"), True)
        assert splits.info.details["languages"] == ("fr", "en")


def test_columns_by_what_they_are_called_and_empty_sides(tmp_path):
    rows = [(a, b, "some longer remark than these") for a, b in PAIRS] + [("", "seul", "remark")]
    text = "target,source,remark\n" + "".join(",".join(row) + "\n" for row in rows)
    (tmp_path / "a.csv").write_text(text)
    splits = check(open_data(tmp_path / "a.csv", "pairs"), True)
    lines = {line.name: line for line in splits.info.details["lines"]}
    assert lines["skipped"].taken_for == "1 pair"
    assert lines["left out"].more == "remark"
    with raises("text-unnamed", "--source and --target with one of en, fr"):
        rows = "".join(f"{a},{b},some longer remark than {a}\n" for a, b in PAIRS)
        (tmp_path / "c.csv").write_text("en,fr,remark\n" + rows)
        open_data(tmp_path / "c.csv", "pairs")
    check(open_data(tmp_path / "c.csv", "pairs", source="en", target="fr"))
    with raises("text-unnamed", "--source"):
        (tmp_path / "b.csv").write_text("en,n\na word,1\ntwo words,2\n")
        open_data(tmp_path / "b.csv", "pairs")
    with raises("column-unknown", "--source", "'spanish'"):
        open_data(tmp_path / "a.csv", "pairs", source="spanish")


@pytest.mark.data
def test_multi30k_translates_from_english(data_dir, monkeypatch):
    monkeypatch.setenv("DL_DATA_DIR", str(data_dir))
    splits = open_data("multi30k", "pairs")
    assert splits.info.details["languages"] == ("en", "de")
    assert splits.info.sizes == {"train": 29000, "validation": 1014, "test": 1000}
    assert splits.train["source"][0] == "Two young, White males are outside near many bushes."


def test_two_languages_are_two(tmp_path):
    for name in ("a.en", "a.de"):
        (tmp_path / name).write_text("one\ntwo\n", encoding="utf-8")
    with raises("column-twice", "a.en itself"):
        open_data(tmp_path / "a.en", "pairs", target="a.en")
    with raises("column-twice", "--source and --target both name en"):
        open_data(tmp_path, "pairs", source="en", target="en")
