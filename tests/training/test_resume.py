"""A run that dies anywhere and goes on ends with the bits of the run that never died."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import faults
import pytest
from mistakes import raises

import dl
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder
from dl.runs.scripts import load_script
from dl.training import checkpoints, loop
from dl.training.signals import Signals

SCRIPTS = Path(__file__).parents[1] / "scripts"
OPTIONS = {"log_every": 4, "eval_every": 10, "save_every": 10, "progress": False}


def tiny(**changes):
    config, build = load_script(SCRIPTS / "tiny.py")
    return build, config(steps=30, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return dl.train(*tiny(), runs=tmp_path_factory.mktemp("runs"), name="whole", **OPTIONS)


def run_to_crash(runs, phase, step):
    with faults.at(phase, step), pytest.raises(faults.Crash):
        dl.train(*tiny(), runs=runs, name="killed", resume=True, **OPTIONS)


@pytest.mark.parametrize(
    "moments", [[("step", 3)], [("step", 17)], [("evaluate", 20)], [("step", 11), ("step", 29)]]
)
def test_killed_and_resumed_is_identical(whole, tmp_path, moments):
    for phase, step in moments:
        run_to_crash(tmp_path, phase, step)
    killed = dl.train(*tiny(), runs=tmp_path, name="killed", resume=True, **OPTIONS)
    assert first_difference(whole.folder, killed.folder) is None
    assert killed.metrics == whole.metrics


def test_a_checkpoint_whose_line_was_lost_is_recorded_again(whole, tmp_path):
    dl.train(*tiny(), runs=tmp_path, name="killed", **OPTIONS)
    folder = RunFolder(tmp_path / "killed")
    folder.result.unlink()
    for path in (folder.metrics, folder.digests):
        lines = path.read_text().splitlines(keepends=True)
        lost = [x for x in lines if '"step": 30' in x and ("checkpoint" in x or "leaves" in x)]
        assert len(lost) == 1
        path.write_text("".join(x for x in lines if x not in lost))
    resumed = dl.train(*tiny(), runs=tmp_path, name="killed", resume=True, **OPTIONS)
    assert first_difference(whole.folder, resumed.folder) is None
    assert resumed.result["digest"] == whole.result["digest"]


def test_a_signal_in_a_log_window_changes_nothing(whole, tmp_path):
    with faults.at("step", 17, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        stopped = dl.train(*tiny(), runs=tmp_path, name="killed", **OPTIONS)
    assert stopped.ended == "SIGTERM"
    assert int(stopped.state.step) == 17
    done = dl.train(*tiny(), runs=tmp_path, name="killed", resume=True, **OPTIONS)
    assert first_difference(whole.folder, done.folder) is None


def test_several_processes_heed_a_signal_once_all_can(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as early:
        early.setattr(Signals, "while_together", lambda self: self)
        # While the step compiles.
        early.setattr(loop, "fit_baselines", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        stopped = dl.train(*tiny(), runs=tmp_path, name="killed", **OPTIONS)
    assert (stopped.ended, int(stopped.state.step)) == ("SIGTERM", 0)
    done = dl.train(*tiny(), runs=tmp_path, name="killed", resume=True, **OPTIONS)
    assert first_difference(whole.folder, done.folder) is None


@pytest.mark.parametrize(
    "part", ["state/opt_state", "state/ema", "state/variables/batch_stats", "totals", "state/step"]
)
def test_a_part_left_out_of_the_checkpoint_is_found(whole, tmp_path, monkeypatch, part):
    run_to_crash(tmp_path, "step", 17)
    honest = checkpoints.unflatten

    def forget(flat, template):
        fresh = checkpoints.flatten(template)
        return honest({n: fresh[n] if n.startswith(part) else x for n, x in flat.items()}, template)

    monkeypatch.setattr(checkpoints, "unflatten", forget)
    resumed = dl.train(*tiny(), runs=tmp_path, name="killed", resume=True, **OPTIONS)
    assert first_difference(whole.folder, resumed.folder) is not None


@pytest.mark.parametrize("harm", ["truncate", "flip"])
def test_a_damaged_checkpoint_is_found_and_the_one_before_it_used(whole, tmp_path, capfd, harm):
    run_to_crash(tmp_path, "step", 25)
    newest = max((tmp_path / "killed" / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name))
    assert newest.name == "20"
    files = [p for p in newest.rglob("*") if p.is_file() and p.stat().st_size > 300]
    target = max(files, key=lambda p: p.stat().st_size)
    content = bytearray(target.read_bytes())
    if harm == "truncate":
        target.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 0x10
        target.write_bytes(content)
    resumed = dl.train(*tiny(), runs=tmp_path, name="killed", resume=True, **OPTIONS)
    assert "checkpoint 20 is damaged" in capfd.readouterr().err
    assert first_difference(whole.folder, resumed.folder) is None


def test_a_finished_run_whose_state_is_damaged_is_trained_again(whole, tmp_path, capfd):
    shutil.copytree(whole.folder.path, tmp_path / "killed")
    states = sorted((tmp_path / "killed" / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name))
    selected = str(whole.result["selected"]["step"])
    assert [path.name for path in states][-1:] == [selected]
    next(states[-1].glob("state/d/*")).write_bytes(b"")
    again = dl.train(*tiny(), runs=tmp_path, name="killed", resume=True, **OPTIONS)
    assert f"is trained again from step {states[-2].name}" in capfd.readouterr().err
    assert first_difference(whole.folder, again.folder) is None
    assert again.result["digest"] == whole.result["digest"]
    for path in again.folder.checkpoints.glob("*/state/d/*"):  # nothing is left to begin with
        path.write_bytes(b"")
    with raises("checkpoints-damaged", selected):
        dl.train(*tiny(), runs=tmp_path, name="killed", resume=True, **OPTIONS)
    assert again.folder.finished()  # so its result is not given up


def flip(path, line):
    """Change a digit of the state's first digest in a line."""
    lines = path.read_text().splitlines()
    place = lines[line].index('"state/step": "lanes:') + len('"state/step": "lanes:')
    mark = "1" if lines[line][place] == "0" else "0"
    lines[line] = lines[line][:place] + mark + lines[line][place + 1 :]
    path.write_text("\n".join(lines) + "\n")


def test_digests_that_are_none_of_the_checkpoint_are_written_again(whole, tmp_path):
    run_to_crash(tmp_path, "step", 25)
    folder = RunFolder(tmp_path / "killed")
    flip(folder.digests, -1)
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    lines[-1 if lines[-1]["event"] == "checkpoint" else -2]["digest"] = "0" * 64
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    resumed = dl.train(*tiny(), runs=tmp_path, name="killed", resume=True, **OPTIONS)
    assert first_difference(whole.folder, resumed.folder) is None
    told = [
        [r["digest"] for r in run.folder.records() if r["event"] == "checkpoint"]
        for run in (whole, resumed)
    ]
    assert told[0] == told[1]


def test_digests_of_an_older_state_that_changed_are_named(tmp_path):
    run_to_crash(tmp_path, "step", 25)
    flip(tmp_path / "killed" / "digests.jsonl", 0)
    with raises("log-changed", "digests.jsonl", "step 10"):
        dl.train(*tiny(), runs=tmp_path, name="killed", resume=True, **OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize(("script", "agrees"), [("tiny.py", True), ("forgetful.py", False)])
def test_dl_verify_kills_real_processes_and_tells(script, agrees, tmp_path):
    environment = {**os.environ, "DL_TEST_FORGET": "opt_state"}
    command = [
        sys.executable,
        "-c",
        "from dl.cli.main import main; main()",
        "verify",
        SCRIPTS / script,
    ]
    flags = ["--kills", "1", "--", "--steps", "20"]
    done = subprocess.run(
        [*command, *flags],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == (0 if agrees else 1), done.stdout + done.stderr
    assert ("identical" if agrees else "DIFFERENT") in done.stdout


def test_metrics_file_is_cut_back_to_the_checkpoint(tmp_path):
    run_to_crash(tmp_path, "step", 29)
    folder = RunFolder(tmp_path / "killed")
    with folder.metrics.open("a") as file:
        file.write('{"event": "train", "step": 29, "metr')  # what a kill in mid-line leaves
    dl.train(*tiny(), runs=tmp_path, name="killed", resume=True, **OPTIONS)
    steps = [r["step"] for r in folder.records() if r["event"] == "train"]
    assert steps == [4, 8, 12, 16, 20, 24, 28, 30]
