"""The door to data tells a name from a path, and what is wrong with neither."""

import os

import numpy as np
import pytest
from mistakes import raises
from PIL import Image

import dl
from dl.core.errors import UserError
from dl.data.own import door
from dl.data.own.table import OwnTable


def test_mistakes_at_the_door_get_one_line(tmp_path):
    with raises("unknown", "kind of data 'picture'", "did you mean 'pictures'"):
        dl.data.open("digits", "picture")
    with raises("data-unknown", "no file or folder digit ", "did you mean 'digits'"):
        dl.data.open("digit", "pictures")
    with raises("unknown", "option of data 'labels'", "did you mean 'label'"):
        dl.data.open(tmp_path, "pictures", labels="x")
    with raises("option-misplaced", "--hold-out", "digits has"):
        dl.data.open("digits", "pictures", hold_out=(0.2, 0.2))


def test_a_name_gives_the_named_set():
    opened, loaded = dl.data.open("digits", "pictures"), dl.load("digits")
    assert opened.train["image"] is loaded.train["image"]


def test_pictures_of_a_table_are_not_read_again_for_what_a_run_draws_beside_it(tmp_path):
    rows = ["path,label", *(f"{n}.png,{'ab'[n % 2]}" for n in range(20))]
    (tmp_path / "own.csv").write_text("\n".join(rows))
    for n in range(20):
        Image.new("L", (4, 4), n).save(tmp_path / f"{n}.png")
    views = tmp_path / "runs" / "first" / "views"
    views.mkdir(parents=True)
    (views.parent / "run.lock.json").write_text("{}")

    def first_train():
        return dl.data.open(tmp_path / "own.csv", "pictures").train["image"]

    before = first_train()
    Image.new("L", (9, 9)).save(views / "samples-20.png")
    (tmp_path / "log").write_text("training ...")
    assert first_train() is before
    Image.new("L", (4, 4), 255).save(tmp_path / "3.png")
    assert first_train() is not before


def test_a_name_that_is_a_folder_here_too_says_how_to_mean_it(tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.warns(UserWarning, match="digits means the named set: for the folder here say"):
        dl.data.open("digits", "pictures")

    def gone(name):
        raise UserError("data-missing", f"{name} is not here")

    (tmp_path / "fsdd").touch()
    monkeypatch.setattr(door, "load", gone)
    with raises("data-missing", "for the file here say --data ./fsdd. fsdd is not here"):
        dl.data.open("fsdd", "recordings")
    monkeypatch.setenv("DL_DATA_DIR", ".")  # the named set's own folder
    monkeypatch.setattr(door, "load", dl.load)
    recwarn.clear()
    dl.data.open("digits", "pictures")
    assert not recwarn.list


def test_python_may_leave_the_kind_out_and_give_one_value_for_several(tmp_path):
    for row in range(40):
        folder = tmp_path / "pets" / ("cat" if row % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9), row, np.uint8)).save(folder / f"{row}.png")
    splits = dl.data.open(tmp_path / "pets", size=5)
    assert splits.train["image"].shape[1:3] == (5, 5)


def test_a_keyword_is_a_flag_to_a_script_and_a_field_in_python(tmp_path):
    cells = [f"{n},{n if n else '1O'}" for n in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y", *cells]))
    with raises("cell-unreadable", "task='classification'"):
        dl.data.open(tmp_path / "t.csv", "table")
    with raises("cell-unreadable", "--task classification"):
        dl.data.open(tmp_path / "t.csv", "table", OwnTable())


@pytest.mark.parametrize("kind", ["table", "texts", "pictures", "corpus", "transcripts", None])
def test_a_pipe_is_no_file_alone_or_in_a_folder(tmp_path, kind):
    (tmp_path / "a").mkdir()
    for n in range(4):
        (tmp_path / "a" / f"{n}.txt").write_text("words\n", encoding="utf-8")
    pipe = tmp_path / "a" / "pipe.csv"
    os.mkfifo(pipe)
    for place in (pipe, tmp_path, tmp_path / "a"):
        with raises("not-a-file", "pipe.csv is a pipe"):
            dl.data.open(place, kind)
    with raises("not-a-file", "/dev/zero is a device"):
        dl.data.open("/dev/zero", kind)


def test_paths_that_are_none_get_a_line():
    with raises("data-unknown", "a path is empty"):
        dl.data.open("", "pictures")
    with raises("file-read", "File name too long"):
        dl.data.open("x" * 5000, "table")
    with raises("file-missing", "~nosuchuser/x.csv"):
        dl.data.open("~nosuchuser/x.csv", "table")


def test_every_file_that_says_something_has_its_digest(tmp_path):
    for part in ("train", "val", "test"):
        folder = tmp_path / "tables" / part
        folder.mkdir(parents=True)
        (folder / "data.csv").write_text("a,y\n" + f"{len(part)},n\n2,p\n" * 9, encoding="utf-8")
        for language in ("de", "en"):
            folder = tmp_path / "pairs" / part / "x"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"a.{language}").write_text("one\ntwo\n", encoding="utf-8")
    tables = dl.data.open(tmp_path / "tables", "table").info.digests
    assert list(tables) == ["train/data.csv", "val/data.csv", "test/data.csv"]
    assert len(dl.data.open(tmp_path / "pairs", "pairs").info.digests) == 6


def test_a_table_and_the_pictures_it_names_are_read_anew_once_they_change(tmp_path):
    rows = ["image,label"]
    for row in range(8):
        Image.fromarray(np.full((8, 8), row, np.uint8)).save(tmp_path / f"{row}.png")
        rows.append(f"{row}.png,{'ab'[row % 2]}")
    table = tmp_path / "pets.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    before = dl.data.open(table, "pictures")
    assert dl.data.open(table, "pictures") is before
    Image.fromarray(np.full((8, 8), 99, np.uint8)).save(tmp_path / "3.png")
    after = dl.data.open(table, "pictures")
    assert max(part["image"].max() for part in after.parts.values()) == 99
    table.write_text("\n".join([*rows[:-1], "7.png,a"]), encoding="utf-8")
    last = dl.data.open(table, "pictures").info.digests
    changed = [
        {name for name in last if one.info.digests[name] != other[name]}
        for one, other in ((before, after.info.digests), (after, last))
    ]
    assert changed == [{"files of pets.csv"}, {"pets.csv"}]
