"""Folds are lanes of one program, each with the bits of the run of that fold alone."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import dl
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder
from dl.runs.scripts import load_script
from dl.sweeps.groups import Sweep

SCRIPT = Path(__file__).parents[2] / "experiments" / "tabular.py"
TABLE = SCRIPT.parents[1] / "tests" / "experiments" / "loans.csv"
CADENCE = {"log_every": 2, "eval_every": 4, "progress": False}


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    kind, build = load_script(SCRIPT)
    runs = tmp_path_factory.mktemp("runs")
    table = runs / "loans.csv"  # 59 rows, so folds of several sizes
    table.write_text("".join(TABLE.read_text().splitlines(keepends=True)[:-1]))
    fields = {"target": "repaid", "epochs": 2, "batch_size": 10, "embedding": "none"}
    config = kind(data=str(table), trees=False, folds=3, **fields)
    assert Sweep().wanted(config)
    found = dl.sweep(
        build, config, seeds=2, lanes="map", script=SCRIPT, runs=runs, name="s", **CADENCE
    )
    return build, config, runs, found


def test_a_lane_has_the_bits_of_the_run_of_its_fold(crossed):
    build, config, runs, found = crossed
    lanes = sorted((found.folder / "lanes").iterdir())
    assert len(lanes) == 6
    assert len(list(found.folder.glob("group-*.json"))) == 1
    own = next(lane for lane in lanes if lane.name.endswith("seed=1-fold=2"))
    alone = dataclasses.replace(config, fold=2, seed=1)
    assert not Sweep().wanted(alone)
    run = dl.train(build, alone, script=SCRIPT, runs=runs, name="alone", **CADENCE)
    assert first_difference(run.folder, RunFolder(own)) is None
    metrics = [
        json.loads((folder / "result.json").read_text())["metrics"]
        for folder in (own, run.folder.path)
    ]
    assert metrics[0] == metrics[1]


def test_each_row_is_predicted_by_the_runs_that_did_not_train_on_it(crossed):
    *_, found = crossed
    told = found.out_of_fold
    rows = len(TABLE.read_text().splitlines()) - 2
    for seed in range(2):
        lanes = [
            n
            for n, lane in enumerate(sorted((found.folder / "lanes").iterdir()))
            if f"seed={seed}" in lane.name
        ]
        own = np.isin(told["lane"], lanes)
        assert sorted(told["row"][own]) == list(range(rows))
        chances = np.stack([x[own] for name, x in told.items() if name.startswith("p_")])
        np.testing.assert_allclose(chances.sum(0), 1, atol=1e-5)
    assert found.settings[0]["metrics"]["test/accuracy"][2] == 6
