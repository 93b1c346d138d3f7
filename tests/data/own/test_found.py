"""Rows of the user's own are cut as their files say, else by seed, labels in proportion or whole groups."""

import dataclasses
import unicodedata
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from mistakes import raises
from rich.text import Text

import dl
from dl.cli.trained import _as_reading
from dl.core.errors import UserError
from dl.data.own.found import (
    Found,
    Line,
    OwnFiles,
    divide,
    in_fields,
    part_called,
    parts_called,
    show,
    shown_before,
)
from dl.data.own.table import OwnTable
from dl.data.own.tested import reading_options
from dl.data.splits import Info
from dl.platform import screen


def found(size, **more):
    return Found({"row": np.arange(size)}, Info("own", "own rows", "", "", "", ""), **more)


def rows(splits):
    return {name: part["row"].tolist() for name, part in splits.parts.items()}


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 200),
    shares=st.tuples(st.floats(0, 0.49), st.floats(0, 0.49)),
    how=st.sampled_from(["seed", "strata", "group", "order"]),
    seed=st.integers(0, 5),
)
def test_every_row_is_in_one_part(size, shares, how, seed):
    values = np.arange(size) * 7 % 5
    more = {"strata": {"strata": values}, "group": {"group": values}}.get(how, {})
    if how == "group" and size < 5:
        return  # too few groups for two parts
    splits = divide(found(size, **more), OwnFiles(hold_out=shares, in_order=how == "order"), seed)
    parts = rows(splits)
    assert sorted(row for part in parts.values() for row in part) == list(range(size))
    assert parts["train"]
    if how == "group":
        held = [set(values[part]) for part in parts.values()]
        assert sum(map(len, held)) == len(set().union(*held))
    if how == "order":
        assert parts["train"] == list(range(len(parts["train"])))
    assert splits.info.sizes == {name: len(part) for name, part in parts.items()}


def said(splits, name):
    return [f"{x.taken_for}; {x.more}" for x in splits.info.details["lines"] if x.name == name]


def test_groups_stay_whole_in_the_order_of_the_rows_too():
    group = np.arange(100) // 3 % 11  # they come again
    splits = divide(found(100, group=group), OwnFiles(group="g", in_order=True))
    held = [set(group[part["row"]]) for part in splits.parts.values()]
    assert sum(map(len, held)) == 11 == len(set().union(*held))
    assert max(held[0]) < min(held[1]) < min(held[2])  # the last that begin are for test
    assert said(splits, "groups") == ["11; each in one part, whole"]
    assert "training rows come after the first held out" in said(splits, "parts")[0]


def test_groups_and_files_that_the_files_own_parts_tear_are_counted():
    part, group = np.array(["train", "test"] * 10), np.arange(20) // 4
    own = OwnFiles(group="g", hold_out=(0.0, 0.0))
    splits = divide(found(20, part=part, group=group, names=["a", *map(str, range(18)), "a"]), own)
    torn = said(splits, "check")
    assert [each.partition(";")[0] for each in torn] == [
        "5 of 5 groups are torn",
        "1 of 19 files are torn",
    ]
    assert not said(splits, "groups")


def test_a_class_that_only_other_parts_have_is_refused_whatever_the_kind():
    own = found(6, part=np.array(["train"] * 4 + ["test"] * 2), strata=np.array([0, 1, 0, 1, 2, 2]))
    own = dataclasses.replace(own, info=dataclasses.replace(own.info, classes=("a", "b", "c")))
    with raises("class-untrained", "'c'", "2 rows"):
        divide(own, OwnFiles(hold_out=(0.0, 0.0)))


def test_labels_keep_their_shares():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    splits = divide(found(1000, strata=labels), OwnFiles(hold_out=(0.1, 0.2)))
    for name, size in (("validation", 100), ("test", 200)):
        counts = np.bincount(labels[splits.parts[name]["row"]])
        np.testing.assert_array_equal(counts, np.array([0.6, 0.3, 0.1]) * size)


def test_parts_that_the_files_have_are_honoured():
    part = parts_called(["Train", "training", "val", "TEST ", "dev", "tst"], "column part")
    splits = divide(found(6, part=part), OwnFiles())
    assert rows(splits) == {"train": [0, 1], "validation": [2, 4], "test": [3, 5]}
    assert splits.info.details["lines"][-1].more == "as the files say"


def test_validation_comes_out_of_train_where_the_files_have_none():
    part = np.array(["train"] * 90 + ["test"] * 10)
    splits = divide(found(100, part=part), OwnFiles())
    assert rows(splits)["test"] == list(range(90, 100))
    assert len(splits.validation["row"]) == 9
    assert "10% of train" in splits.info.details["lines"][-1].more


def test_files_without_a_test_part_say_what_the_figures_are_worth():
    part = np.array(["train"] * 9 + ["validation"])
    splits = divide(found(10, part=part), OwnFiles())
    assert splits.test == {}
    assert "no test part" in splits.info.details["lines"][-1].more


@pytest.mark.parametrize("word", ["Train", "VAL", "dev", "testing"])
def test_parts_have_many_names(word):
    assert part_called(word) in ("train", "validation", "test")


def test_mistakes_get_one_line():
    with raises("split-word", "'maybe'", "train"):
        parts_called(["train", "maybe"], "column part")
    with raises("hold-out-impossible", "0.6 0.5"):
        divide(found(9), OwnFiles(hold_out=(0.6, 0.5)))
    with raises("hold-out-impossible", "patient"):
        divide(found(9, group=np.zeros(9)), OwnFiles(group="patient"))
    with raises("part-empty"):
        divide(found(2, part=np.array(["test", "test"])), OwnFiles())


def test_what_was_found_is_shown_as_plain_text(capsys):
    show(divide(found(30), OwnFiles()).info)
    said = capsys.readouterr().err
    assert "own rows" in said
    assert "24 train, 3 validation, 3 test" in said


def test_nothing_that_is_shown_is_obeyed_by_a_terminal(capsys):
    line = Line("a\x1b[2J", "b\u202e", "c\x9b\nd")
    info = dataclasses.replace(found(1).info, title="t\x1b]0;x\x07", details={"lines": (line,)})
    show(info)
    screen(stderr=True).print("e\x1b[31mf\u200b", Text("g\x08"))
    said = capsys.readouterr().err
    assert not {c for c in said if unicodedata.category(c) in ("Cc", "Cf")} - {"\n"}
    assert "c� d" in said


def test_a_run_opened_again_does_not_show_its_files_again(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a,b\n" + "1,x\n2,y\n" * 20, encoding="utf-8")
    with shown_before():
        dl.data.open(tmp_path / "t.csv", "table", target="b")
    assert not capsys.readouterr().err
    dl.data.open(tmp_path / "t.csv", "table", target="b", hold_out=(0.2, 0.2))
    assert "t.csv" in capsys.readouterr().err


def test_options_are_called_as_each_door_calls_them():
    said = "say encoding='cp1252' or header=False"
    assert in_fields(said) == "say --encoding cp1252 or --headings NAME ..."
    told = in_fields(said, "fields")
    assert told == "say encoding='cp1252' or headings=(...)"
    for each in (said, told):  # in Python's words or a reader's
        wanted = "say --reading encoding='cp1252' or --reading headings=(...)"
        assert in_fields(each, "reading") == wanted

    @dataclasses.dataclass(frozen=True)
    class Config(OwnTable, dl.Recipe):
        steps: int = 3

    opened = SimpleNamespace(experiment=SimpleNamespace(config=Config()))
    told = "--reading target=... with one of a, b, or --reading separator='^', not --slice"
    with raises("unknown", told), _as_reading(opened):
        raise UserError("unknown", "--target with one of a, b, or --separator '^', not --slice")

    assert reading_options(Config) == {field.name for field in dataclasses.fields(OwnTable)}
