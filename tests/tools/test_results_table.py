"""The tables of docs/results.md, written from experiments/results.toml."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def write(checkout, *words):
    command = [sys.executable, checkout / "tools" / "results_table.py", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path):
    for name in ("tools/results_table.py", "docs/results.md", "experiments/results.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(checkout, old, new):
    file = checkout / "experiments" / "results.toml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")


def page(checkout):
    return (checkout / "docs" / "results.md").read_text("utf-8")


def test_the_page_is_written_from_the_file():
    done = write(ROOT, "--check")
    assert done.returncode == 0, done.stderr


def test_every_experiment_has_its_row():
    rows = (ROOT / "experiments" / "results.toml").read_text("utf-8")
    for path in (ROOT / "experiments").glob("*.py"):
        assert f'command = "{path.stem}' in rows, path.stem


def test_a_stale_page_is_told_and_written_anew(checkout):
    change(checkout, "reached = 38.9", "reached = 35.10")
    done = write(checkout, "--check")
    assert done.returncode == 1
    assert "run python tools/results_table.py" in done.stderr
    assert "35.10" not in page(checkout)
    assert write(checkout).returncode == 0
    assert "| 35.10 | 36 (short) |" in page(checkout)  # its digits stay, and the bar is weighed
    assert write(checkout, "--check").returncode == 0


def test_what_is_not_measured_yet_and_what_is_seen_are_told(checkout):
    change(checkout, "reached = 38.9\n", "")
    change(checkout, "the pagoda has the flower's colours", "a pagoda of flowers")
    write(checkout)
    assert "| test2016 sacreBLEU | not measured yet | 36 |" in page(checkout)
    assert "| pictures, by eye | a pagoda of flowers and grain |" in page(checkout)


def test_a_field_that_no_row_has_is_refused(checkout):
    change(checkout, "seen = ", "sen = ")
    done = write(checkout)
    assert done.returncode == 1
    assert "style_transfer: no row has sen" in done.stderr
