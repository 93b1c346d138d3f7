"""The page of a data set shows every kind of column, and says what is odd."""

import dataclasses
import re

import numpy as np
import pytest
from pages import Reader
from PIL import Image

import dl
from dl.data.batches.streams import ArraySource
from dl.data.splits import Info, Splits
from dl.report.data import write_data_page

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("alone")
WORDS = ["good film", "Bad film!", "a film", "no film", "film noir"]


def splits(train, other, **info):
    described = {"title": "own <set>", "source": "", "licence": "", "task": "classification"}
    return Splits(train, other, {}, Info("own", description="rows", **{**described, **info}))


def texts(count, first=0):
    label = np.arange(count) % 2
    said = [f"{WORDS[i % 5]} {i}" for i in range(first, first + count)]
    return {"text": np.array(said), "label": label}


def waveforms(count):
    samples = RNG.integers(-9000, 9000, (count, 800)).astype(np.int16)
    return {
        "waveform": samples,
        "length": np.full(count, 700, np.int32),
        "label": np.arange(count) % 2,
    }


def rows(count):
    return {"numerical": RNG.normal(size=(count, 2)), "label": np.arange(count) % 2}


@pytest.mark.parametrize("made", [texts, waveforms, rows])
def test_each_kind_makes_a_page_that_is_well_formed(made, tmp_path):
    file = tmp_path / "page.html"
    other = texts(21, 100) if made is texts else made(21)
    assert write_data_page(splits(made(40), other, classes=("no", "yes")), file) == []
    page = Reader(file.read_text())
    assert page.of("audio") or made is not waveforms
    assert "own <set>" in "".join(page.words)


def test_the_digits_are_shown_as_pictures(tmp_path):
    assert write_data_page(dl.load("digits"), tmp_path / "page.html") == []
    assert len(Reader((tmp_path / "page.html").read_text()).of("img")) == 24


def test_what_is_odd_is_said(tmp_path):
    train, other = texts(60), texts(25, 5)
    train["numerical"] = np.stack([train["label"] * 2.0, np.ones(60)], 1)
    other["numerical"] = np.stack([other["label"] * 2.0, np.ones(25)], 1)
    names = [
        dataclasses.make_dataclass("C", ["name", "kind"])(n, "numerical") for n in ("told", "one")
    ]
    made = splits(train, other, classes=("no", "yes", "never"), details={"columns": names})
    told = "\n".join(write_data_page(made, tmp_path / "page.html"))
    assert "class 'never' has no row to train on" in told
    assert "column 'one' has one value" in told
    assert "column 'told' alone takes 100% of the errors away" in told
    assert "rows of validation" not in told  # the same texts, and other numbers


def test_repeats_between_the_parts_are_said(tmp_path):
    train = texts(60)
    other = {"text": train["text"][10:30].copy(), "label": 1 - train["label"][10:30]}
    other["text"][0] = other["text"][0].upper()
    told = "\n".join(write_data_page(splits(train, other, classes=("no", "yes")), tmp_path / "a"))
    assert "rows of validation that are in train too: 19, and 1 that look alike" in told
    assert "rows whose label is another than the same row's elsewhere: 19" in told


def test_of_a_streamed_part_some_rows_are_read(tmp_path):
    digits = dl.load("digits")
    made = dataclasses.replace(digits, train=ArraySource(digits.train))
    assert write_data_page(made, tmp_path / "page.html") == []


def test_repeated_files_are_called_by_their_names(tmp_path):
    for n in range(40):
        folder = tmp_path / "pets" / ("cat" if n % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        values = RNG.integers(0, 256, (20, 20), np.uint8)
        for name in (f"{n}.png", f"{n}_copy.png") if n < 12 else (f"{n}.png",):
            Image.fromarray(values).save(folder / name)
    opened = dl.data.open(tmp_path / "pets", "pictures")
    told = write_data_page(opened, tmp_path / "page.html")
    twin = re.search(
        r"such as (\w+)/(\d+)(?:_copy)?\.png \(train\) and \1/\2(?:_copy)?\.png", str(told)
    )
    assert twin, told
    assert "row 0" not in (tmp_path / "page.html").read_text().partition("A few of them")[2]
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{n % 50},{n % 2}\n" for n in range(100)))
    told = write_data_page(dl.data.open(tmp_path / "a.csv", "table"), tmp_path / "page.html")
    assert re.search(r"such as line \d+ \(train\) and line \d+ \(train\)", "\n".join(told))
