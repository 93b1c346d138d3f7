"""Scripts are loaded without being run."""

import pytest

import dl
from dl.runs.scripts import load_script

DOORS = [
    "dl.train(build, Config())",
    "dl.sweep(build, Config(), {'steps': [1, 2]})",
    "dl.objective(build, Config())",
    "dl.open_run('runs/a')",
    "dl.main(Config, build)",
]


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
