"""Curves as text."""

import itertools
import json

import numpy as np
from mistakes import raises

from dl.report.watch import text_curve, watch_run


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right():
    line = np.stack([np.arange(50.0), np.arange(50.0) ** 2], 1)
    rows = text_curve({"train": line}, 40, 6).plain.splitlines()
    assert len(rows) == 7
    assert max(map(len, rows)) <= 40
    columns = [[i for i, c in enumerate(row[10:]) if c != " "] for row in rows[:6]]
    assert columns[-1][0] == 0
    assert columns[0][-1] == 29
    assert all(a[0] >= b[0] for a, b in itertools.pairwise(columns))
    assert "2401" in rows[0]
    assert rows[5].strip().startswith("0")


def write(folder, records):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"config": {"seed": 0}, "steps": 100}))
    lines = [{"event": "train", "step": s, "metrics": {"train/loss": v}} for s, v in records]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_run_is_drawn_from_its_metrics_alone_and_a_lost_value_left_out(tmp_path, capsys):
    folder = write(tmp_path / "r", [(10, 2.5), (20, "nan"), (30, 1.5)])
    watch_run(folder, once=True)
    said = capsys.readouterr().out
    assert "step 30/100" in said
    assert "unfinished" in said
    assert "train 1.5" in said


def test_it_ends_with_the_run(tmp_path, capsys):
    folder = write(tmp_path / "r", [(1, 1.0), (100, 1.0)])
    (folder / "result.json").write_text(json.dumps({"ended": "done"}))
    watch_run(folder)
    assert "done" in capsys.readouterr().out


def test_mistakes_are_told(tmp_path):
    with raises("not-a-run", str(tmp_path)):
        watch_run(tmp_path, once=True)
    with raises("unknown", "lss", "loss"):
        watch_run(write(tmp_path / "r", [(1, 1.0)]), once=True, only=("lss",))
