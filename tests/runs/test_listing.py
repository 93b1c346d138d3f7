"""`dl runs`: what is listed, chosen and set apart, whatever lies in the folder."""

import csv
import fcntl
import io
import json
import math
import os
import sys
import time

import pytest
from folders import run
from mistakes import raises

from dl.cli.commands import COMMANDS
from dl.cli.main import main
from dl.runs import listing
from dl.runs.folder import RunFolder, at_work, to_json


def dl(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["dl", *words])
    monkeypatch.setenv("DL_TRACEBACK", "1")  # errors as they are
    main()


def change(folder, file, **values):
    found = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**found, **to_json(values)}))


def with_config(folder, **values):
    change(folder, "config.json", config={"seed": 0, "rate": 0.1, **values})


@pytest.fixture
def runs(tmp_path):
    """Four runs: two done, one that stopped, one whose loss was not finite; and a sweep of two lanes."""
    place = tmp_path / "runs"
    with_config(run(place / "slow", [1.0, 0.5], 0.6), rate=1e-3, data="mnist", widths=[16, 32])
    with_config(run(place / "fast", [1.0, 0.25], 0.8), rate=1e-2, data="digits", clip=None)
    run(place / "cut", [1.0, 0.7], 0.3)
    (place / "cut" / "result.json").unlink()
    run(place / "broke", [math.nan], math.nan)
    (place / "broke" / "result.json").unlink()
    (place / "broke" / "failed.json").write_text('{"code": "loss-not-finite", "said": "nan"}')
    for number, loss in enumerate([0.125, 0.2]):
        run(place / "rates" / "lanes" / f"{number:03d}-rate", [loss], 0.9 - number / 10)
    (place / "rates" / "sweep.json").write_text('{"spec": {"overrides": [{}, {}]}}')
    for age, name in enumerate(["slow", "fast", "cut", "broke"]):
        os.utime(place / name / "config.json", (1e9 + age, 1e9 + age))
    return place


def names(rows):
    return [row.name for row in rows]


def test_runs_and_sweeps_are_listed_with_what_they_reached(runs, monkeypatch, capsys):
    rows, bad = listing.list_runs(runs)
    assert names(rows) == ["slow", "fast", "cut", "broke", "rates"]
    assert [row.state for row in rows] == ["done", "done", "stopped", "failed", "stopped"]
    assert [row.steps for row in rows] == [20, 20, 10, 0, "2/2 lanes"]
    assert rows[-1].run.value == 0.125  # by the lane that is the best
    assert rows[2].metrics["validation/loss"] == 0.7
    assert not bad
    dl(monkeypatch, "runs", str(runs))
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["name", "script", "state", "steps", "rule", "value", "when"]
    assert said[1].startswith("slow ")
    assert "2001-09-09" in said[1]


def test_a_run_at_work_is_told_and_does_not_notice(runs):
    with open(runs / "cut" / ".writer", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert {r.name: r.state for r in listing.list_runs(runs)[0]}["cut"] == "running"
        assert at_work(runs / "cut")
    assert not at_work(runs / "cut")
    before = sorted((p, p.stat().st_mtime_ns) for p in runs.rglob("*"))
    listing.list_runs(runs)
    assert sorted((p, p.stat().st_mtime_ns) for p in runs.rglob("*")) == before


@pytest.mark.parametrize(
    ("terms", "left"),
    [
        (["rate<5e-3"], ["slow"]),
        (["rate<=1e-2", "test/iou>0.7"], ["fast"]),
        (["data=mnist"], ["slow"]),
        (["data!=mnist"], ["fast"]),
        (["widths=16,32"], ["slow"]),
        (["widths=16 32"], ["slow"]),
        (["widths = (16, 32)"], ["slow"]),
        (["clip=none"], ["fast"]),
        (["state=failed"], ["broke"]),
        (["config.rate>=0.1", "validation/iou<0.5"], ["cut"]),
        (["name=slow"], ["slow"]),
        (["test/iou>0.85"], ["rates/lanes/000-rate"]),
    ],
)
def test_runs_are_chosen_by_fields_and_metrics(runs, terms, left):
    assert names(listing.where(listing.list_runs(runs, lanes=True)[0], terms)) == left


def test_runs_are_sorted_and_the_best_is_named(runs, monkeypatch, capsys):
    rows, _ = listing.list_runs(runs, lanes=True)
    by_loss = names(listing.ordered(rows, "test/loss"))
    assert by_loss[:4] == ["rates/lanes/000-rate", "rates/lanes/001-rate", "fast", "slow"]
    assert names(listing.ordered(rows, "-test/loss"))[0] == "slow"
    assert set(names(listing.ordered(rows, "-test/loss"))[4:]) == {"cut", "broke"}  # have none
    dl(monkeypatch, "runs", str(runs), "--best", "-test/loss")
    assert capsys.readouterr().out == f"{runs}/rates/lanes/000-rate\n"
    dl(monkeypatch, "runs", str(runs), "--where", "data=digits", "--best", "test/iou")
    assert capsys.readouterr().out == f"{runs}/fast\n"
    dl(monkeypatch, "runs", str(runs), "--sort", "-rate", "--columns", "name", "rate")
    assert capsys.readouterr().out.split()[-2:] == ["slow", "0.001"]


def test_every_field_and_metric_is_there_as_csv_and_json(runs, monkeypatch, capsys):
    dl(monkeypatch, "runs", str(runs), "--csv")
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert table[0]["rate"] == "0.001"
    assert table[1]["test/loss"] == "0.25"
    assert table[2]["test/loss"] == ""
    dl(monkeypatch, "runs", str(runs), "--json")
    found = json.loads(capsys.readouterr().out)
    assert found[0]["config"]["widths"] == [16, 32]
    assert found[3]["metrics"]["validation/loss"] == "nan"


def test_a_damaged_run_is_a_line_beside_the_table(runs, monkeypatch, capsys):
    (runs / "slow" / "result.json").write_text("{")
    (runs / "away").symlink_to(runs.parent)
    (runs / "fast" / "config.json").write_text('{"config": {"a\\u001b[31m": "\\u001b]0;x\\u0007"}}')
    dl(monkeypatch, "runs", str(runs))
    said = capsys.readouterr()
    assert "slow" not in said.out
    assert said.err.count("\n") == 1
    assert said.err.startswith("left out: ")
    dl(monkeypatch, "runs", str(runs), "--csv")
    assert "\x1b" not in capsys.readouterr().out


def test_mistakes_are_one_line(runs, tmp_path, monkeypatch):
    rows, _ = listing.list_runs(runs)
    with raises("unknown", "'rat'", "rate"):
        listing.where(rows, ["rat<1"])
    with raises("unknown", "'test/los'", "test/loss"):
        dl(monkeypatch, "runs", str(runs), "--sort", "-test/los")
    with raises("unknown", "columns"):
        dl(monkeypatch, "runs", str(runs), "--columns", "columns")
    with raises("where-malformed", "rate"):
        listing.where(rows, ["rate"])
    with raises("where-malformed", "'low'"):
        listing.where(rows, ["rate<low"])
    with raises("where-malformed", "write >=, not =>"):
        listing.where(rows, ["rate=>1"])
    with raises("folder-missing", "nowhere"):
        listing.list_runs(tmp_path / "nowhere")
    with raises("nothing-found", "'test/iou'"):
        dl(monkeypatch, "runs", str(runs), "--where", "state=failed", "--best", "test/iou")
    with raises("options-exclusive", "--csv"):
        dl(monkeypatch, "runs", str(runs), "--csv", "--json")
    for words in (["--to", "x"], ["diff", "a", "b", "--csv"], ["remove", "a", "--sort", "name"]):
        with raises("option-misplaced"):
            dl(monkeypatch, "runs", *words)
    with raises("run-unnamed"):
        dl(monkeypatch, "runs", "diff", "a")
    with raises("run-unnamed"):
        dl(monkeypatch, "runs", "remove")
    assert "runs" in COMMANDS


def test_an_empty_folder_is_said_to_be(tmp_path, monkeypatch, capsys):
    dl(monkeypatch, "runs", str(tmp_path))
    assert "no run in" in capsys.readouterr().err


def test_what_sets_two_runs_apart(runs, monkeypatch, capsys):
    for name, version in (("slow", "1"), ("fast", "2")):
        packages = {"packages": {"jax": version, "optax": "3"}, "data": {"train": "a" * 64}}
        (runs / name / "run.lock.json").write_text(json.dumps({"environment": packages}))
    dl(monkeypatch, "runs", "diff", "slow", str(runs / "fast"), "--runs", str(runs))
    said = capsys.readouterr().out
    lines = {line.split()[0]: line.split()[1:] for line in said.splitlines()[1:]}
    assert lines["config.rate"] == ["0.001", "0.01"]
    assert lines["packages.jax"] == ["1", "2"]
    assert lines["result.test/loss"] == ["0.5", "0.25"]
    assert "packages.optax" not in said
    assert "step 0" in said.splitlines()[-1]


def test_a_run_that_fails_says_so_until_it_goes_on(tmp_path):
    folder = RunFolder(run(tmp_path / "one", [1.0], 0.5))
    folder.result.unlink()
    with pytest.raises(ValueError, match="broke"), folder.failing():
        raise ValueError("broke")
    assert listing.list_runs(tmp_path)[0][0].state == "failed"
    with folder.failing():
        assert listing.list_runs(tmp_path)[0][0].state == "stopped"


def test_a_thousand_runs_are_listed_at_once(tmp_path):
    for number in range(1000):
        run(tmp_path / f"{number:04d}", [1.0], 0.5)
    begun = time.process_time()
    assert len(listing.list_runs(tmp_path)[0]) == 1000
    assert time.process_time() - begun < 10  # some 0.5 s alone
    print(time.perf_counter() - begun)
