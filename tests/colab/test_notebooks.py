"""Every notebook runs from top to bottom, whichever cell is run twice; a lost kernel costs no bit."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat.v4 import new_code_cell, new_notebook

TESTS = Path(__file__).parents[1]
NOTEBOOKS = sorted((TESTS.parent / "colab").glob("*.ipynb"))
SLOW = {"generate", "perception", "things"}  # their cells are run once
SHORT = {
    "alike",
    "generate",
    "perception",
    "sequences",
    "speech",
    "tables",
    "things",
}  # theirs have a tenth of the steps


def code(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def executed(cells, folder):
    """The cells, run one after the other by a new kernel in ``folder``."""
    fresh = new_notebook(cells=[new_code_cell(cell.source) for cell in cells])
    NotebookClient(fresh, timeout=600, resources={"metadata": {"path": folder}}).execute()
    return fresh.cells


def shorter(source):
    """A cell whose runs have a tenth of the steps, and as many evaluations: it shows the same kinds of things, and
    figures are not looked at."""
    spans = re.compile(r"\b((?:steps|eval_every)(?:: int = |=))(\d+)\b")
    return spans.sub(lambda found: f"{found[1]}{max(1, int(found[2]) // 10)}", source)


def pictures(cell):
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def texts(cell):
    """What a cell shows in words or HTML."""
    for output in cell.outputs:
        yield output.get("text", "")
        yield from (v for kind, v in output.get("data", {}).items() if kind.startswith("text/"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")  # as on a machine without a screen
    cells = [cell for cell in code(path) for _ in range(1 if path.stem in SLOW else 2)]
    tried = [new_code_cell(shorter(cell.source)) if path.stem in SHORT else cell for cell in cells]
    for stored, cell in zip(cells, executed(tried, tmp_path), strict=True):
        lines = sum(output.get("text", "").count("\n") for output in cell.outputs)
        assert len(cell.outputs) < 40, "a progress bar that fills the page"
        assert lines < 100
        assert pictures(cell) == pictures(stored), cell.source
        if cell.source.endswith(".plot()"):
            assert pictures(cell) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_stored_and_tell_nothing_of_the_machine(path):
    assert path.stat().st_size < 300_000
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(map(pictures, cells)) >= 1
    for cell in cells:
        assert not [output for output in cell.outputs if output.output_type == "error"]
        told = [o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]
        assert all("saving and stopping" in text for text in told), told  # the stop button's answer
        for text in texts(cell):
            assert not re.search(r"(?<![\w.<])/\w[\w.-]*/", text), text  # /home/me/, but not a/b
            assert "Warning" not in text


@pytest.mark.slow
def test_a_lost_kernel_goes_on_to_the_same_bits(tmp_path):
    cells = code(TESTS.parent / "colab" / "quickstart.ipynb")
    sources = [cell.source for cell in cells]
    begun = next(n for n, source in enumerate(sources) if "= dl.train(" in source)
    kept = next(n for n, source in enumerate(sources) if 'name="kept"' in source)
    needed = [*cells[:begun], *cells[kept - 1 : kept + 1]]
    kill = f"""
import os, signal, sys
sys.path.insert(0, {str(TESTS)!r})
import faults
fault = faults.at("step", 125, lambda: os.kill(os.getpid(), signal.SIGKILL))
fault.__enter__()
"""
    with pytest.raises(DeadKernelError):
        executed([new_code_cell(kill), *needed], tmp_path)
    run = tmp_path / "runs" / "kept"
    assert (run / "config.json").exists()
    assert not (run / "result.json").exists()
    whole = "dl.train(build, kept.experiment.config, runs='whole', progress=False).result['digest']"
    *_, resumed, last = executed(
        [*needed, new_code_cell(f"kept.result['digest'], {whole}")], tmp_path
    )
    assert re.search(r"resuming runs/kept at step (?!0 )\d+ of 300", "".join(texts(resumed)))
    one, other = ast.literal_eval(last.outputs[-1].data["text/plain"])
    assert one == other
