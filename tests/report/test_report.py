"""The report page: whole, valid, offline, and readable on a phone."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from folders import run as run_folder
from mistakes import raises
from pages import Reader

import dl
from dl.cli.commands import report
from dl.figures.curves import PANELS
from dl.report.runs import write_page
from dl.report.sweeps import write_report
from dl.runs.readers import read_records
from dl.runs.records import find_runs, grouped, read_run
from dl.runs.scripts import load_script
from dl.sweeps.sweep import SweepRun

TINY = Path(__file__).parents[1] / "scripts" / "tiny.py"
pytestmark = pytest.mark.usefixtures("alone")
SECTIONS = (
    *("Summary", "Configuration", "Learning curves", "Evaluation", "Pictures", "Confusion"),
    *("Layers", "Time and memory", "Lock and digests"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A sweep of two learning rates by two seeds, with a picture and a text in one of its lanes."""
    kind, build = load_script(TINY)
    options = {"name": "s", "runs": tmp_path_factory.mktemp("runs"), "progress": False}
    swept = dl.sweep(build, kind(steps=20), {"learning_rate": [1e-3, 1e-2]}, seeds=2, **options)
    views = grouped(find_runs([swept.folder]))[0].runs[0].path / "views"
    views.mkdir()
    from PIL import Image

    Image.new("RGB", (8, 8)).save(views / "samples-20.png")
    for step, text in ((10, "never changes"), (20, "never changes")):
        (views / f"same-{step}.txt").write_text(text)
    (views / "says-20.txt").write_text("a < b\n")
    return swept.folder


@pytest.fixture(scope="module")
def page(place):
    report((place,), inspect=1)
    return place / "report.html"


def test_every_section_is_there_and_the_page_is_well_formed(page):
    read = Reader(page.read_text())
    ids = [
        a["id"] for _, a in read.elements if "id" in a and not re.match("[mp][0-9a-f]{10}", a["id"])
    ]
    assert len(ids) == len(set(ids))
    assert [a["href"] for a in read.of("a")] == [f"#{name}" for name in ids]
    assert [word for word in read.words if word in SECTIONS][: len(SECTIONS)] == [*SECTIONS]
    assert read.of("meta")[1]["content"].startswith("width=device-width")
    words = " ".join(read.words)
    assert words.count("never changes") == 1  # shown once, as it was last
    assert "same, step 20" in words
    assert "a < b" in words  # text is escaped, so it comes out as it was
    assert "BatchNorm_0" in words
    assert "none for" not in words


def test_nothing_is_loaded_from_anywhere(page):
    for tag, attributes in Reader(page.read_text()).elements:
        for name in ("src", "href", "xlink:href", "data", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("data:", "#")), (tag, value)
    assert not re.search(r"@import|url\((?!#)", page.read_text())


def test_figures_take_the_pages_colours(page):
    drawn = re.findall(r"<svg.*?</svg>", page.read_text(), re.DOTALL)
    named = [re.search(r'aria-label="([\w ]+)"', figure)[1] for figure in drawn]
    curves = [re.fullmatch(r"(\w+) over .*", name)[1] for name in named if " over " in name]
    assert curves == ["accuracy", "loss", "gradient_norm"]
    assert {name for name in named if " over " not in name} == {"share right by confidence"}
    for figure in drawn:
        assert "var(--c0)" in figure
        assert "#000000" not in figure


def test_runs_that_differ_by_seed_alone_are_together_and_the_best_come_first(place):
    found = grouped(find_runs([place]))
    assert [len(setting.runs) for setting in found] == [2, 2]
    assert {s.title for s in found} == {"learning_rate 0.001", "learning_rate 0.01"}
    assert found[0].value >= found[1].value
    means = [r.result["metrics"]["test/accuracy"] for r in found[0].runs]
    mean, sd, count = found[0].metrics["test/accuracy"]
    assert (mean, sd, count) == (np.mean(means), pytest.approx(np.std(means, ddof=1)), 2)


def test_the_confusion_matrix_counts_every_test_example_once(place):
    from dl.report.judged import judge

    opened = dl.open_run(grouped(find_runs([place]))[0].runs[0].path)
    tests = opened.experiment.tests["test"]
    counts = judge(opened.experiment.task, opened.state.eval_variables, tests).counts
    assert counts.sum() == tests.size
    right = opened.metrics["test/accuracy"] * tests.size
    assert np.trace(counts) == pytest.approx(right)


def test_classes_go_by_their_names(page):
    text = page.read_text()
    assert "<tr><th>&lt;1</th>" in text
    assert "<th><span>&lt;1</span></th>" in text
    assert "&amp;lt;" not in text


def test_a_run_still_going_is_reported_from_what_is_there(place, tmp_path):
    lane = find_runs([place])[0].path
    half = shutil.copytree(lane, tmp_path / "half")
    (half / "result.json").unlink()
    text = (half / "metrics.jsonl").read_text()
    (half / "metrics.jsonl").write_text(text + '{"event": "train", "step"')  # being written
    lines = [json.loads(line) for line in text.splitlines()]
    assert list(read_records(half / "metrics.jsonl")) == lines
    report((half,), inspect=0)
    assert "1 unfinished" in (half / "report.html").read_text()


def test_a_folder_without_runs_says_so(tmp_path):
    with raises("not-a-run", str(tmp_path), "holds no run"):
        report((tmp_path,))


def test_the_sweeps_page_has_the_same_style_and_its_curves(place):
    *pictures, file = write_report(place)
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    words = Reader(file.read_text()).words
    assert {"Settings", "Fields", "Learning curves"} <= set(words)
    assert "± " in SweepRun(place)._repr_html_()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_scrolls_the_page_up_and_down_only(page, tmp_path, width):
    measure = (
        "<script>parent.document.body.dataset.widths=[innerWidth,document.documentElement.scrollWidth];"
        "document.querySelector('th button').click();"
        "parent.document.body.dataset.sorted=document.querySelector('th').ariaSort</script></body>"
    )
    inner = html.escape(page.read_text().replace("</body>", measure), quote=True)
    file = tmp_path / "page.html"  # in a frame, since no window is as narrow as a phone
    file.write_text(f'<!doctype html><body><iframe width="{width}" srcdoc="{inner}"></iframe>')
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    done = subprocess.run(
        ["chromium", *flags, "--no-first-run", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    seen, scrolled = re.search(r'data-widths="(\d+),(\d+)"', done.stdout).groups()
    assert width - 20 <= int(seen) <= width
    assert int(scrolled) <= int(seen)
    assert 'data-sorted="ascending"' in done.stdout


def test_a_run_of_300_metrics_is_shown_without_a_panel_for_each(tmp_path):
    place = run_folder(tmp_path / "r", [1.0, 0.5], 0.4)
    many = {f"validation/class{i}": 0.1 * i for i in range(300)}
    lines = [
        {"event": event, "step": step, "metrics": {**more, f"{part}/zloss": 1.0}}
        for step in (10, 20)
        for event, part, more in (("train", "train", {}), ("eval", "validation", many))
    ]
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = write_page([read_run(place)], {}, tmp_path / "page.html").read_text()
    assert found.count("over the steps") == PANELS
    assert "zloss over the steps" in found  # what is trained is drawn first
    assert f"The first {PANELS} of 301 metrics are drawn" in found
