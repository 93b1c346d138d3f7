"""How the package is found once it is installed."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_folder_called_dl_stands_before_nothing(tmp_path):
    """A clone called dl in the working folder passes for a package without a file of its own, which is
    how notebooks tell it; where the real one is installed, that is found all the same."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["dev-mode-dirs"] == ["."]  # so an editable install puts the checkout on the path
    (tmp_path / "dl" / "docs").mkdir(parents=True)
    code = f"""
import importlib, sys
sys.path.insert(0, "")
print(importlib.util.find_spec("dl").origin)
sys.path.append({str(ROOT)!r})
importlib.invalidate_caches()
print(importlib.util.find_spec("dl").origin)
"""
    told = subprocess.check_output(
        [sys.executable, "-I", "-S", "-c", "import importlib.util" + code], cwd=tmp_path, text=True
    )
    assert told.splitlines() == ["None", str(ROOT / "dl" / "__init__.py")]
