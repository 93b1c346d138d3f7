"""Scripts are loaded without being run."""

import pytest
from mistakes import raises

import dl
from dl.runs.scripts import load_script

DOORS = [
    "dl.train(build, Config())",
    "dl.sweep(build, Config(), {'steps': [1, 2]})",
    "dl.objective(build, Config())",
    "dl.open_run('runs/a')",
    "dl.main(Config, build)",
]


def test_a_run_that_is_opened_before_build_is_there_is_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "taught.py"
    path.write_text(
        "import dl\n\nTEACHER = dl.open_run('runs/teacher')\nclass Config: pass\ndef build(c): pass\n"
    )
    with raises("script-fails", "runs/teacher"):
        load_script(path)


@pytest.mark.parametrize("door", DOORS)
def test_a_script_without_a_main_guard_is_loaded_up_to_where_it_trains(door, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bare.py"
    path.write_text(
        "import dataclasses, dl\n\n@dataclasses.dataclass(frozen=True)\nclass Config:\n    steps: int = 1\n\n"
        f"def build(config): raise ZeroDivisionError\n\ntry:\n    {door}\nexcept Exception:\n    raise\n"
        "raise RuntimeError('it went on')\n"
    )
    config, build = load_script(path)
    assert config().steps == 1
    with pytest.raises(ZeroDivisionError):  # afterwards the doors are open again
        dl.train(build, config())
    assert not (tmp_path / "runs").exists()
