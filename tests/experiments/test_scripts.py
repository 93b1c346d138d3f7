"""Every shipped experiment, at tiny size: it runs, resumes exactly after a kill, and sweeps to the bit."""

import json
from pathlib import Path

import pytest

import dl
from dl.core.experiment import built
from dl.core.population import liftable
from dl.training import faults
from dl.training.compare import first_difference
from dl.training.folder import RunFolder
from dl.training.run import Options
from dl.training.scripts import load_script
from dl.training.sweep import Sweep, run_sweep

FOLDER = Path(__file__).parents[2] / "experiments"

# Config fields of a run of a few steps. A script that needs files of its own takes `data_dir` from the
# fixture of that name, and is skipped where they are absent.
TINY: dict[str, dict] = {
    "image_classification": {"epochs": 1, "batch_size": 400, "widths": (8, 8)},
}
# Other tiny configurations worth the same test, as (script, fields).
MORE: list[tuple[str, dict]] = []
NEEDS_DATA: set[str] = set()

CADENCE = {"log_every": 2, "eval_every": 4, "progress": False}


class Crash(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing is tidied up."""


def scripts():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(TINY), "TINY must list every script"
    return [*TINY.items(), *MORE]


@pytest.fixture(params=scripts(), ids=lambda p: p[0])
def case(request):
    """(config class, build, tiny config, path) of every script."""
    name, fields = request.param
    kind, build = load_script(FOLDER / f"{name}.py")
    if name in NEEDS_DATA:
        fields = {**fields, "data_dir": str(request.getfixturevalue("data_dir"))}
    return kind, build, kind(**fields), FOLDER / f"{name}.py"


@pytest.mark.slow
def test_resumes_exactly_and_sweeps_to_the_bit(case, tmp_path, monkeypatch):
    _, build, config, path = case
    experiment = built(build, config)
    whole = dl.train(experiment, path, runs=tmp_path, name="whole", **CADENCE)
    assert whole.ended in ("done", "early")

    kill = max(1, whole.result["steps"] - 2)
    with monkeypatch.context() as patch:
        patch.setenv("DL_KILL_AT", f"step:{kill}")

        def die(phase, step):
            if phase == "step" and step >= kill:
                raise Crash

        patch.setattr(faults, "reach", die)
        with pytest.raises(Crash):
            dl.train(experiment, path, runs=tmp_path, name="killed", **CADENCE)
    resumed = dl.train(experiment, path, runs=tmp_path, name="killed", resume=True, **CADENCE)
    assert first_difference(whole.folder, resumed.folder) is None

    if "seed" in liftable(experiment):
        options = Options(name="sweep", runs=tmp_path, **CADENCE)
        place = run_sweep(build, config, Sweep(seeds=2, lanes="map"), options, lambda n, t: t, path)
        lane = sorted((place / "lanes").iterdir())[0]
        assert json.loads((lane / "result.json").read_text())["seed"] == config.seed
        assert first_difference(whole.folder, RunFolder(lane)) is None
