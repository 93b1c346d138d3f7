"""A repository's address in its notebooks."""

import importlib.util
import json
import shutil
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "colab"


def cells(folder):
    return {p.name: json.loads(p.read_text())["cells"] for p in sorted(folder.glob("*.ipynb"))}


def test_badges_and_installs_name_the_address_given_last(tmp_path):
    spec = importlib.util.spec_from_file_location("badges", ROOT / "tools" / "badges.py")
    badges = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(badges)
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    before = cells(tmp_path)
    badges.main(tmp_path, "first/one")
    badges.main(tmp_path, "some/where", "stable")
    for name, (title, install, *rest) in cells(tmp_path).items():
        badge, blank, *lines = title["source"]
        assert badge.endswith(
            f"(https://colab.research.google.com/github/some/where/blob/stable/colab/{name})\n"
        )
        assert (blank, lines) == ("\n", before[name][0]["source"])
        extras = "[detection]" if name == "perception.ipynb" else ""
        line = f'    %pip install -q "dl-functional{extras} @ git+https://github.com/some/where@stable"\n'
        assert line in install["source"]
        assert "clone" not in "".join(install["source"])
        assert rest == before[name][2:]
        nbformat.validate(nbformat.read(tmp_path / name, as_version=4))
