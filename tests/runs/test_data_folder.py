"""The data folder belongs to the run: any door takes it, and the run is found again without it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mistakes import raises

import dl
from dl.cli.main import main as dl_command
from dl.data.readers.files import data_folder, use_data_folder
from dl.proofs.replay import replay_run
from dl.runs.folder import RunFolder
from dl.runs.scripts import load_script

SCRIPT = Path(__file__).parents[1] / "scripts" / "numbers_of_a_file.py"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "nowhere"))
    yield
    use_data_folder(None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "numbers").mkdir()
    np.save(folder / "numbers" / "x.npy", np.arange(16, dtype=np.float32).reshape(8, 2) / 16)
    return folder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The runs' folder of a run that the command line began with --data-dir."""
    runs = tmp_path_factory.mktemp("runs")
    flags = ["--data-dir", data, "--runs", runs, "--name", "a", "--no-progress"]
    subprocess.run([sys.executable, SCRIPT, *flags], check=True, capture_output=True)
    return runs


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished / "a", tmp_path / "runs" / "a"))


def older(run, data):
    """The folder as runs had it while data_dir was a field of the config."""
    config = json.loads((run / "config.json").read_text())
    config["config"]["data_dir"] = str(data)
    (run / "config.json").write_text(json.dumps(config))
    lock = json.loads((run / "run.lock.json").read_text())
    del lock["environment"]["data_dir"]
    (run / "run.lock.json").write_text(json.dumps(lock))


def test_it_is_no_setting_of_the_run(run):
    assert "data_dir" not in json.loads((run / "config.json").read_text())["config"]


@pytest.mark.parametrize("old", [False, True])
def test_a_run_finds_its_data_again(run, data, old):
    if old:
        older(run, data)
    assert dl.open_run(run).predict(np.zeros((1, 2), np.float32)).shape == (1, 1)
    assert data_folder() == data
    assert replay_run(run, say=lambda _: None)


def test_a_run_whose_folder_is_gone_looks_where_others_do(run, data, monkeypatch, tmp_path):
    lock = json.loads((run / "run.lock.json").read_text())
    lock["environment"]["data_dir"] = str(tmp_path / "gone")
    (run / "run.lock.json").write_text(json.dumps(lock))
    with raises("file-missing", "nowhere"):
        dl.open_run(run)
    monkeypatch.setenv("DL_DATA_DIR", str(data))
    dl.open_run(run)


def test_the_folder_chosen_here_comes_first(run, data, tmp_path):
    moved = Path(shutil.copytree(data, tmp_path / "moved"))
    use_data_folder(moved)
    dl.open_run(run)
    assert data_folder() == moved
    x = np.load(moved / "numbers" / "x.npy")
    np.save(moved / "numbers" / "x.npy", x + 1)
    load_script(SCRIPT)  # nothing is kept
    with raises("data-changed", "data.train"):
        dl.open_run(run)


@pytest.mark.parametrize("old", [False, True])
def test_an_unfinished_run_goes_on_from_another_folder(run, data, old, tmp_path, capsys):
    if old:
        older(run, data)
    (run / "result.json").unlink()
    moved = shutil.copytree(data, tmp_path / "moved")
    config, build = load_script(SCRIPT)
    flags = ["--runs", str(run.parent), "--name", "a", "--resume", "--data-dir", str(moved)]
    with pytest.raises(SystemExit) as ended:
        dl.main(config, build, flags)
    assert ended.value.code == 0
    assert RunFolder(run).finished()


def test_plan_and_report_take_it(finished, data, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["dl", "plan", str(SCRIPT), "--", "--data-dir", str(data)])
    dl_command()
    assert "parameters" in capsys.readouterr().out
    page = str(tmp_path / "page.html")
    monkeypatch.setattr(sys, "argv", ["dl", "report", str(finished / "a"), "--output", page])
    use_data_folder(None)
    dl_command()
    assert "without its layers" not in capsys.readouterr().err


def test_python_gives_it_as_an_option_too(data, tmp_path):
    config, build = load_script(SCRIPT)
    options = {"runs": tmp_path, "data_dir": str(data), "progress": False}
    run = dl.train(build, config(), name="run", **options)
    use_data_folder(None)
    lanes = dl.sweep(build, config(), seeds=2, lanes="map", name="sweep", **options)
    use_data_folder(None)
    for folder in (run.folder.path, *(lanes.folder / "lanes").iterdir()):
        assert dl.open_run(folder).ended == "done"


def test_a_field_of_that_name_is_refused(tmp_path):
    text = SCRIPT.read_text().replace("rows: int = 8", "rows: int = 8\n    data_dir: str = ''")
    (tmp_path / "own.py").write_text(text)
    done = subprocess.run([sys.executable, tmp_path / "own.py"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "'data_dir' of Config is a flag of every run: leave it out" in done.stderr
