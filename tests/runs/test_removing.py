"""`dl runs remove` and `dl runs archive`: whole or not at all, and never what others need."""

import contextlib
import fcntl
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile

import pytest
from folders import run
from mistakes import raises

from dl.cli.main import main
from dl.core.errors import NonFiniteError
from dl.runs import folder, removing
from dl.runs.folder import RunFolder, check_name
from dl.runs.removing import archive, chosen, remove, unless_begun


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs and a sweep, in a folder beside which one works."""
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second", "rates/lanes/000-a", "rates/lanes/001-b"):
        place = run(tmp_path / "runs" / name, [1.0], 0.5)
        (place / "checkpoints" / "20" / "empty").mkdir(parents=True)
        (place / "checkpoints" / "20" / "state").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "runs" / "rates" / "sweep.json").write_text('{"spec": {"overrides": [{}, {}]}}')
    return tmp_path / "runs"


def dl(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["dl", "runs", *words])
    monkeypatch.setenv("DL_TRACEBACK", "1")
    main()


def contents(place):
    files = (p for p in place.rglob("*") if p.is_file() and p.name not in (".writer", "SHA256SUMS"))
    return {str(p.relative_to(place)): p.read_bytes() for p in files}


@contextlib.contextmanager
def at_work(place):
    with open(place / ".writer", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def test_runs_are_removed_by_name_or_path(runs, monkeypatch):
    dl(monkeypatch, "remove", "first", str(runs / "rates"), "--yes")
    assert [p.name for p in runs.iterdir()] == ["second"]


def test_one_is_asked_first(runs, monkeypatch):
    with raises("not-confirmed", "remove first?", "--yes"):
        dl(monkeypatch, "remove", "first")
    for said, left in (("", True), ("n\n", True), ("y\n", False)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(said))
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        with raises("not-confirmed") if left else contextlib.nullcontext():
            dl(monkeypatch, "remove", "first")
        assert (runs / "first").exists() == left


def test_what_is_at_work_stays(runs):
    for name in ("second", "rates"):
        with at_work(runs / name), raises("run-in-use", name):
            remove(chosen(["first", name], runs))
    assert len(list(runs.iterdir())) == 3


@pytest.mark.parametrize("by", ["ancestor", "start", "start-absolute", "of a lane", "by a lane"])
def test_what_others_were_begun_from_stays(runs, by):
    child, needed = run(runs / "child", [1.0], 0.5), "first"
    if by == "ancestor":
        told = {"ancestor": {"run": str(runs / "first"), "step": 3, "digest": "0"}}
        (child / "run.lock.json").write_text(json.dumps(told))
    elif by == "by a lane":
        (runs / "rates/lanes/000-a/config.json").write_text('{"config": {"start": "runs/first"}}')
    else:
        needed = "rates" if by == "of a lane" else "first"
        start = {"start": "runs/first", "of a lane": "runs/rates/lanes/000-a"}
        named = start.get(by, str(runs / "first"))
        (child / "config.json").write_text(json.dumps({"config": {"start": named}}))
    other = "rates" if by == "by a lane" else "child"
    with raises("run-needed", other, needed, "name both"):
        remove(chosen([needed, "second"], runs))
    assert (runs / "second").exists()
    remove(chosen([needed, other], runs))
    assert not (runs / needed).exists()


def test_a_word_that_is_the_name_of_a_run_needs_no_run(runs, monkeypatch):
    run(runs / "digits", [1.0], 0.5)
    (runs / "second" / "config.json").write_text('{"config": {"data": "digits"}}')
    monkeypatch.chdir(runs)
    remove(chosen(["digits"], runs))


def test_a_lane_a_link_and_nothing_are_told(runs):
    (runs / "link").symlink_to(runs / "first")
    with raises("run-needed", "lane", "rates"):
        chosen(["rates/lanes/000-a"], runs)
    with raises("record-damaged", "link"):
        chosen(["link"], runs)
    with raises("not-a-run", "thrid"):
        chosen(["thrid"], runs)
    with raises("not-a-run"):
        chosen(["."], runs)
    assert len(chosen(["first", str(runs / "first")], runs)) <= 2


def test_a_damaged_run_can_be_removed(runs):
    (runs / "first" / "config.json").write_text("{")
    remove(chosen(["first"], runs))
    assert not (runs / "first").exists()


def test_a_link_within_is_not_followed(runs, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    (runs / "first" / "views").symlink_to(tmp_path / "mine")
    with raises("record-damaged", "views"):
        archive(chosen(["first"], runs), tmp_path / "kept.tar.gz")
    assert not (tmp_path / "kept.tar.gz").exists()
    remove(chosen(["first"], runs))
    assert (tmp_path / "mine" / "letter").read_text() == "dear"


@pytest.mark.parametrize("to", ["old.tar.gz", "folder"])
def test_nothing_is_written_or_deleted_through_a_link_that_was_there(runs, tmp_path, to):
    (tmp_path / "mine").mkdir()
    letter = tmp_path / "mine" / "letter"
    letter.write_text("dear")
    part = tmp_path / ".old.tar.gz.part"
    if to == "folder":
        (tmp_path / to).mkdir()
        part = tmp_path / to / ".first.part"
    part.symlink_to(letter if to != "folder" else letter.parent)
    (runs / ".left.removing").symlink_to(letter.parent)
    archive(chosen(["first"], runs), tmp_path / to)
    assert letter.read_text() == "dear"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter"]
    assert not part.is_symlink()
    assert not (runs / "first").exists()


def test_an_archive_unpacks_to_the_runs_it_was_made_of(runs, tmp_path, monkeypatch, capsys):
    before = {name: contents(runs / name) for name in ("first", "rates")}
    dl(monkeypatch, "archive", "first", "rates", "--to", "kept/old.tar.gz", "--yes")
    assert "kept/old.tar.gz" in capsys.readouterr().out
    assert [p.name for p in runs.iterdir()] == ["second"]
    with tarfile.open(tmp_path / "kept" / "old.tar.gz") as tar:
        tar.extractall(runs, filter="data")
    assert {name: contents(runs / name) for name in ("first", "rates")} == before
    assert (runs / "first/checkpoints/20/empty").is_dir()
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=runs / "first", check=False)
    assert done.returncode == 0


def test_a_folder_will_do(runs, tmp_path):
    before = contents(runs / "first")
    assert archive(chosen(["first"], runs), tmp_path / "attic") == [tmp_path / "attic" / "first"]
    assert contents(tmp_path / "attic" / "first") == before
    assert not (runs / "first").exists()
    sums = (tmp_path / "attic" / "first" / "SHA256SUMS").read_text().split()
    assert hashlib.sha256(before["config.json"]).hexdigest() in sums


def test_what_is_kept_stays_though_others_need_it(runs, tmp_path):
    told = {"ancestor": {"run": str(runs / "first"), "step": 3, "digest": "0"}}
    (runs / "second" / "run.lock.json").write_text(json.dumps(told))
    with raises("run-needed"):
        archive(chosen(["first"], runs), tmp_path / "one.tar.gz")
    archive(chosen(["first"], runs), tmp_path / "one.tar.gz", keep=True)
    assert (runs / "first").exists()


@pytest.mark.parametrize("to", ["one.tar.gz", "attic"])
def test_nothing_is_taken_unless_the_archive_is_whole(runs, tmp_path, monkeypatch, to):
    honest = removing._digest
    read = iter(range(1000))
    monkeypatch.setattr(removing, "_digest", lambda f: honest(f) + ("x" if next(read) > 8 else ""))
    before = contents(runs / "first")
    with raises("file-damaged", "came out of"):
        archive(chosen(["first"], runs), tmp_path / to)
    assert contents(runs / "first") == before
    assert not list(tmp_path.glob("**/*.part"))
    assert not (tmp_path / "one.tar.gz").exists()


def test_places_that_cannot_be_are_told(runs, tmp_path):
    (tmp_path / "there.tar.gz").touch()
    first = chosen(["first"], runs)
    for to, code in (
        ("there.tar.gz", "file-exists"),
        ("old.zip", "file-ending"),
        ("runs/first/old", "file-write"),
        ("runs", "file-exists"),
    ):
        with raises(code):
            archive(first, tmp_path / to)
    assert (runs / "first" / "config.json").exists()


def test_what_a_kill_left_is_no_run_and_is_swept_up(runs, tmp_path):
    (runs / "first").rename(runs / ".first.removing")
    from dl.runs.listing import list_runs
    from dl.runs.records import find_runs

    assert "first" not in str([row.name for row in list_runs(runs)[0]])
    assert len(find_runs([runs])) == 3
    remove(chosen(["second"], runs))
    assert [p.name for p in runs.iterdir()] == ["rates"]


def test_of_two_that_remove_a_run_one_says_that_it_is_gone(runs, monkeypatch):
    both = chosen(["second"], runs)
    remove(both)
    with raises("not-a-run", "no longer there"):
        remove(both)
    with monkeypatch.context() as at_once, raises("not-a-run", "no longer there"):
        at_once.setattr(folder, "lock_file", lambda file: shutil.rmtree(runs / "first"))
        remove(chosen(["first"], runs))
    swept = runs / ".first.removing"
    swept.mkdir()
    with monkeypatch.context() as at_once:  # the other process is ahead in sweeping up
        at_once.setattr(removing.Path, "glob", lambda path, what: [swept, runs / ".gone.removing"])
        remove(chosen(["rates"], runs))
    assert not [*runs.iterdir()]


@pytest.mark.parametrize("what", ["run", "sweep"])
def test_what_failed_before_anything_was_kept_frees_its_name(tmp_path, what):
    place = tmp_path / "first"
    folder = RunFolder(place)
    record = {"run": "config.json", "sweep": "sweep.json"}[what]
    own = place if what == "run" else place / "lanes" / "000-a"

    def fails(new: bool, error: Exception) -> None:
        with folder.held():
            own.mkdir(parents=True, exist_ok=True)
            for file in (place / record, own / "failed.json", place / "trackers.json"):
                file.write_text("{}")
            with pytest.raises(type(error)), unless_begun(folder, new):
                raise error

    away = OSError("away")
    fails(True, away)
    assert not [*tmp_path.iterdir()]
    check_name(tmp_path, "first", what, resume=False)
    fails(True, NonFiniteError("loss-not-finite", "nan"))
    assert (own / "failed.json").exists()  # to be looked at
    fails(False, away)
    assert place.exists()
    for kept in ("metrics.jsonl", "checkpoints/5" if what == "run" else "checkpoints/0-0/5"):
        at = (own if kept == "metrics.jsonl" else place) / kept
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text("{}") if kept == "metrics.jsonl" else at.mkdir()
        fails(True, away)
        assert place.exists()
        at.unlink() if at.is_file() else at.rmdir()
    fails(True, away)
    assert not place.exists()
