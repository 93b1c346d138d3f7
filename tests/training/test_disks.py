"""What a disk does to a run at work, each told in a line that is true."""

import dataclasses
import errno
import os
import shutil
from pathlib import Path
from unittest import mock

import faults
import pytest
from mistakes import one_line, raises

import dl
from dl.cli import errors
from dl.runs import files, folder
from dl.runs.compare import first_difference
from dl.runs.scripts import load_script

CONFIG, BUILD = load_script(Path(__file__).parents[1] / "scripts" / "tiny.py")
OPTIONS = {"log_every": 4, "eval_every": 10, "progress": False, "resume": True}


def train(runs, name="a", steps=30):
    return dl.train(BUILD, CONFIG(steps=steps), runs=runs, name=name, **OPTIONS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs"), "whole")


@pytest.mark.parametrize("phase", ["step", "evaluate"])
@pytest.mark.parametrize("what", ["moved", "deleted"])
def test_a_folder_that_goes_away(whole, tmp_path, what, phase):
    place, kept = tmp_path / "a", tmp_path / "kept"

    def away():
        place.rename(kept)  # at once, for a checkpoint may be under way
        if what == "deleted":
            shutil.rmtree(kept, ignore_errors=True)

    with faults.at(phase, 20, away), raises("file-write", "a is gone: it was moved or deleted"):
        train(tmp_path)
    assert not list(place.glob("*.json*"))  # nothing is written anew in its place
    if what == "moved":
        assert first_difference(whole.folder, train(tmp_path, "kept").folder) is None
    else:
        assert first_difference(whole.folder, train(tmp_path).folder) is None


REFUSALS = {
    errno.EIO: "Input/output error",
    errno.ENOSPC: "No space left on device",
    errno.EROFS: "Read-only file system",
    errno.EDQUOT: "quota",
}


def refusing(number):
    def refuse(*arguments, **more):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
def test_a_disk_that_refuses_a_line(whole, tmp_path, number):
    patch = mock.patch.object(files, "opened_to_append", refusing(number))
    try:
        with (
            faults.at("step", 17, patch.start),
            raises("file-write", "metrics.jsonl cannot be written", REFUSALS[number], "--resume"),
        ):
            train(tmp_path)
    finally:
        patch.stop()
    assert first_difference(whole.folder, train(tmp_path).folder) is None


@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
@pytest.mark.parametrize("part", ["fsync", "replace"])
def test_a_disk_that_refuses_a_file(tmp_path, monkeypatch, capsys, number, part):
    """The command line tells of any file that the system names; a full disk's own error names none."""
    monkeypatch.setattr(errors, "_leave", lambda code: None)
    where = {"fsync": (os, "fsync"), "replace": (Path, "replace")}[part]
    monkeypatch.setattr(*where, refusing(number))
    with errors.plain_errors():
        files.replace(tmp_path / "x", b"1")
    said = capsys.readouterr().err.replace(" [DL_TRACEBACK=1 shows where]", "")
    one_line(said, "system-refuses", REFUSALS[number], str(tmp_path / "x"))


def test_a_folder_whose_names_are_too_long_for_the_system(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(errors, "_leave", lambda code: None)
    with errors.plain_errors():
        dl.train(BUILD, CONFIG(steps=2), runs=tmp_path / ("x" * 300), name="a", **OPTIONS)
    said = capsys.readouterr().err.replace(" [DL_TRACEBACK=1 shows where]", "")
    one_line(said, "system-refuses", "File name too long")


def test_where_no_lock_can_be_had_one_warning_is_given(tmp_path, monkeypatch, capfd):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder.fcntl, "flock", flock)
    assert train(tmp_path, steps=8).ended == "done"
    said = [line for line in capfd.readouterr().err.splitlines() if "lock" in line]
    assert len(said) == 1
    assert "no lock can be had (No locks available)" in said[0]


def test_a_view_is_not_drawn_through_a_link(tmp_path):
    def build(config):
        return dataclasses.replace(BUILD(config), views=lambda predictor: {"x": "drawn"})

    away = tmp_path / "away"
    away.mkdir()

    def plant():
        (tmp_path / "a" / "views").symlink_to(away)

    with faults.at("step", 5, plant), raises("file-write", "views is a link out of the run"):
        dl.train(build, CONFIG(steps=20), runs=tmp_path, name="a", **OPTIONS)
    assert not list(away.iterdir())
