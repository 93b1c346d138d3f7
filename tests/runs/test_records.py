"""Scores of nothing, from the files that runs leave to every table, curve and mean."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from folders import run
from mistakes import raises

from dl.figures.curves import curves
from dl.report.page import table
from dl.report.runs import write_page
from dl.report.sweeps import read_lanes, settings
from dl.report.watch import watch_run
from dl.runs.folder import RunFolder, to_json
from dl.runs.readers import numbers, read_scalars
from dl.runs.records import counted, mean_sd, read_run
from dl.training.console import format_metrics
from dl.training.run import Run

METRICS = {"a": 0.5, "b": math.nan, "c": math.inf, "d": -math.inf, "e": np.array([1.0, math.nan])}


def test_what_is_stored_is_strict_json_and_reads_back_equal():
    text = json.dumps(to_json(METRICS), allow_nan=False)
    found = numbers(json.loads(text))
    for name, value in METRICS.items():
        np.testing.assert_array_equal(found[name], value)
    assert numbers({"note": "nano", "flag": True}) == {"note": "nano", "flag": True}


def test_every_reader_knows_nan(tmp_path, capsys):
    place = run(tmp_path / "r", [1.0, math.nan, 0.5], math.nan)
    scalars = read_scalars(place / "metrics.jsonl")
    np.testing.assert_array_equal(scalars["loss"]["validation"][:, 1], [1.0, math.nan, 0.5])
    assert np.isnan(scalars["iou"]["validation"][:, 1]).all()
    assert np.isnan(read_run(place).metrics["test/iou"])
    history = Run.history(SimpleNamespace(folder=RunFolder(place)), "eval")  # type: ignore[arg-type]
    np.testing.assert_array_equal(history["validation/loss"], [1.0, math.nan, 0.5])
    with raises("run-unfinished", "has not ended"):
        Run.result.fget(SimpleNamespace(folder=RunFolder(tmp_path)))  # type: ignore[attr-defined]
    watch_run(place, once=True)
    said = capsys.readouterr().out
    assert "validation nan" in said
    assert "nothing but nan" in said
    curves([place]).savefig(tmp_path / "curves.png")
    file = write_page([read_run(place)], {}, tmp_path / "page.html")
    assert "<dt>test/iou</dt><dd>nan</dd>" in file.read_text()
    assert format_metrics(numbers({"a": "nan"})) == "a nan"


def test_means_over_seeds_leave_nan_out_and_say_so(tmp_path):
    found = mean_sd([{"x": 1.0, "y": math.nan}, {"x": 3.0, "y": math.nan}, {"x": math.nan}])
    assert found["x"] == pytest.approx((2.0, math.sqrt(2.0), 2))
    assert found["y"] == pytest.approx((math.nan, 0.0, 0), nan_ok=True)
    assert counted("2 ± 1.4", 2, 3) == "2 ± 1.4 (2 of 3)"
    assert counted("2", 3, 3) == "2"
    assert counted("nan", 0, 3) == "nan"
    lanes = tmp_path / "lanes"
    run(lanes / "0", [1.0], 0.4), run(lanes / "1", [1.0, 3.0], math.nan)
    (tmp_path / "sweep.json").write_text(
        json.dumps({"spec": {"overrides": [{"seed": 0}, {"seed": 1}]}})
    )
    (group,) = settings(read_lanes(tmp_path))
    assert group["metrics"]["test/iou"] == (0.4, 0.0, 1)
    file = write_page(
        [read_run(path) for path in sorted(lanes.iterdir())], {}, tmp_path / "page.html"
    )
    assert "<dd>0.4 (1 of 2)</dd>" in file.read_text()


def test_a_column_with_nan_is_one_of_numbers():
    assert table(["x"], [["0.5"], ["nan"], ["0.4 (1 of 2)"], ["-inf"]]).count('class="n"') == 5
