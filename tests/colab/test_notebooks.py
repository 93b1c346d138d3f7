"""Every notebook runs from top to bottom."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "colab"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")  # as on a machine without a screen
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    for cell in notebook.cells:
        outputs = cell.get("outputs", ())
        lines = sum(output.get("text", "").count("\n") for output in outputs)
        assert len(outputs) < 40, "a progress bar that fills the page"
        assert lines < 100
        if cell.source.endswith(".plot()"):
            assert [o for o in outputs if "image/png" in o.get("data", ())], cell.source
