"""What is typed for a sweep is what is run: every combination once, no value changed, dropped or doubled."""

import enum
import itertools
import math
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.sweeps.naming import lane_name
from dl.sweeps.search_space import combine, converter, lane_overrides, parse_field

KINDS = {
    "rate": float,
    "width": int,
    "flag": bool,
    "note": str,
    "clip": float | None,
    "widths": tuple[int, ...],
    "pair": tuple[int, float],
    "names": list[str],
    "optimizer": Literal["sgd", "adam"],
    "place": Path,
    "seed": int,
}
NAMES = list(KINDS)
CONVERT = converter(KINDS)


def lanes(*texts, seeds=1, trials=0, say=lambda text: None):
    fields = [parse_field(text, NAMES, KINDS, say) for text in texts]
    return lane_overrides(fields, 0, seeds, trials, CONVERT, say)


def values(text, **options):
    (name,) = {name for lane in lanes(text, **options) for name in lane}
    return [lane[name] for lane in lanes(text, **options)]


# -- values ------------------------------------------------------------------------------------------

TYPED = [
    ("width=8:16:3", [8, 12, 16]),
    ("width=1:2:2", [1, 2]),
    ("width=-2:2:5", [-2, -1, 0, 1, 2]),
    ("width=8:512:7:log", [8, 16, 32, 64, 128, 256, 512]),
    ("width=9007199254740993:9007199254740995:3", [2**53 + 1, 2**53 + 2, 2**53 + 3]),
    ("width=7, 8", [7, 8]),
    ("rate=-1:1:3", [-1.0, 0.0, 1.0]),
    ("rate=-0.5,-1", [-0.5, -1.0]),
    ("rate=0:1:3", [0.0, 0.5, 1.0]),
    ("rate = 0.1 , 0.2", [0.1, 0.2]),
    ("rate=1e-4:1e-2:3:log", [1e-4, 1e-3, 1e-2]),
    ("rate=0.12345678:0.2:2", [0.12345678, 0.2]),  # the ends as typed, whatever is rounded between
    ("flag=true,false", [True, False]),
    ("flag=no", [False]),
    ("clip=none,1,0.5", [None, 1.0, 0.5]),
    ("note=a,b", ["a", "b"]),
    ('note="a,b",c', ["a,b", "c"]),
    ("note='',x", ["", "x"]),
    ("note=tfds:mnist", ["tfds:mnist"]),
    ("note=12:30:45,none", ["12:30:45", "none"]),
    ("widths=(16,32),(64,)", [(16, 32), (64,)]),
    ("widths=[16, 32],8", [(16, 32), (8,)]),
    ("widths=16 32,64", [(16, 32), (64,)]),
    ("widths=(),1", [(), (1,)]),
    ("pair=(1,2),3 4e-1", [(1, 2.0), (3, 0.4)]),
    ("names=(a,'b c')", [["a", "b c"]]),
    ("optimizer=adam,sgd", ["adam", "sgd"]),
    ("place=/a,b/c", [Path("/a"), Path("b/c")]),
]


@pytest.mark.parametrize(("text", "expected"), TYPED)
def test_what_is_typed_is_what_is_run(text, expected):
    found = values(text)
    assert found == expected
    assert [type(v) for v in found] == [type(v) for v in expected]


def test_an_enum_is_chosen_by_name():
    kind = enum.Enum("kind", "near far")
    assert converter({"kind": kind})("kind", "far") is kind.far


@settings(max_examples=100, deadline=None)
@given(value=st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans()))
def test_any_repr_is_read_back(value):
    name = {bool: "flag", int: "width", float: "rate"}[type(value)]
    read = CONVERT(name, repr(value))
    assert read == value
    assert type(read) is type(value)
    assert math.copysign(1, read) == math.copysign(1, value)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters="\"'"), max_size=8)))
def test_quoted_texts_are_kept(texts):
    texts = [text.strip() for text in texts]
    if texts:
        spec = ",".join(f'"{text}"' for text in texts)
        assert values(f"note={spec}") == list(dict.fromkeys(texts))


# -- combinations ------------------------------------------------------------------------------------

AXES = {
    "rate": st.lists(st.floats(allow_nan=False), min_size=1, max_size=4),
    "width": st.lists(st.integers(-9, 9), min_size=1, max_size=4),
    "flag": st.lists(st.booleans(), min_size=1, max_size=3),
    "clip": st.lists(st.none() | st.floats(0, 2), min_size=1, max_size=3),
}


@settings(max_examples=60, deadline=None)
@given(grid=st.fixed_dictionaries({}, optional=AXES), seeds=st.integers(1, 3))
def test_the_lanes_are_the_product_each_once(grid, seeds):
    texts = [f"{name}={','.join(map(repr, values))}" for name, values in grid.items()]
    found = [tuple(sorted(lane.items())) for lane in lanes(*texts, seeds=seeds)]
    axes = [[(name, v) for v in set(values)] for name, values in grid.items()]
    axes += [[("seed", s) for s in range(seeds)]] if seeds > 1 else []
    assert len(found) == len(set(found))
    assert set(found) == {tuple(sorted(cell)) for cell in itertools.product(*axes)}


@settings(max_examples=60, deadline=None)
@given(
    low=st.integers(-50, 50), span=st.integers(1, 200), count=st.integers(2, 30), log=st.booleans()
)
def test_ranges_of_whole_numbers_are_even_and_have_their_ends(low, span, count, log):
    low = abs(low) + 1 if log else low
    text = f"width={low}:{low + span}:{count}{':log' if log else ''}"
    found = values(text)
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (low, low + span)
    for place in range(count):  # every point of the range has a whole number within a half
        share = place / (count - 1)
        exact = low * ((low + span) / low) ** share if log else low + span * share
        assert min(abs(exact - v) for v in found) <= 0.5 + 1e-6


@settings(max_examples=60, deadline=None)
@given(low=st.floats(-1e6, 1e6), high=st.floats(-1e6, 1e6), count=st.integers(2, 12))
def test_ranges_of_numbers_keep_their_ends_and_their_count(low, high, count):
    if low < high and high - low > 1e-9 * max(abs(low), abs(high)):
        found = values(f"rate={low!r}:{high!r}:{count}")
        assert len(found) == count
        assert (found[0], found[-1]) == (low, high)
        assert all(a < b for a, b in itertools.pairwise(found))


def test_what_is_not_taken_as_typed_is_said():
    said = []
    assert values("rate=0.1,0.10,1e-1,0.2", say=said.append) == [0.1, 0.2]
    assert any("of 4 values some are equal, and each is run once: 0.1, 0.2" in s for s in said)
    said.clear()
    assert values("width=1:3:5", say=said.append) == [1, 2, 3]
    assert any("5 points are 3 whole numbers: 1, 2, 3" in s for s in said)
    said.clear()
    assert len(lanes("flag=false:true", trials=5, say=said.append)) == 2
    assert any("5 draws of flag gave 2 different settings" in s for s in said)


def test_equal_values_are_one_but_one_is_not_true():
    axes = [("rate", [1, 1.0, True]), ("widths", [(1, 2), [1, 2]])]
    assert len(combine(axes, [{}], 0, 1, say=lambda text: None)) == 2


# -- draws -------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(low=st.integers(1, 40), span=st.integers(1, 60), trials=st.integers(1, 9), log=st.booleans())
def test_whole_numbers_are_drawn_within_their_ends_and_never_twice(low, span, trials, log):
    text = f"width={low}:{low + span}{':log' if log else ''}"
    found = values(text, trials=trials)
    assert len(set(found)) == len(found) <= trials
    assert all(isinstance(v, int) and low <= v <= low + span for v in found)


def test_draws_cover_their_range_evenly():
    # 4,000 draws of (width, rate): each whole number about as often, ends included; chi-square of 4.
    found = lanes("width=3:7", "rate=0:1", trials=4000)
    counts = [sum(lane["width"] == w for lane in found) for w in range(3, 8)]
    assert sum((c - 800) ** 2 / 800 for c in counts) < 4 + 5 * math.sqrt(8)
    # On a logarithm, too: 1 to 3 with half a step on either side are shares of log(7), by hand.
    few = lanes("width=1:3:log", "rate=0:1", trials=4000)
    shares = [
        math.log(high / low) / math.log(7) for low, high in ((0.5, 1.5), (1.5, 2.5), (2.5, 3.5))
    ]
    for value, share in zip((1, 2, 3), shares, strict=True):
        count = sum(lane["width"] == value for lane in few)
        assert abs(count - 4000 * share) < 5 * math.sqrt(4000 * share * (1 - share))
    wide = [lane["width"] for lane in lanes("width=1:1000:log", "rate=0:1", trials=3000)]
    low = sum(w < 32 for w in wide) / len(wide)  # half of the decades below the geometric middle
    assert abs(low - 0.5) < 0.1


# -- mistakes ----------------------------------------------------------------------------------------

MISTAKES = [
    (["rate=0.1,0.2", "rate=0.3"], 1, ("swept-twice", "rate", "all its values at once")),
    (["seed=7,8"], 2, ("swept-twice", "seed", "--seeds 2")),
    (["seed=1:3:3"], 2, ("swept-twice", "seed", "--seeds 2")),
    (["rate=0.1,,0.2"], 1, ("sweep-malformed", "--sweep rate=0.1,", "value is missing", "comma")),
    (["rate=0.1,"], 1, ("sweep-malformed", "--sweep rate=0.1,", "value is missing", "comma")),
    (["rate=1:0.1:3"], 1, ("sweep-range", "rate=1:0.1:3", "1 is not below 0.1")),
    (["rate=1:1:3"], 1, ("sweep-range", "rate=1:1:3", "1 is not below 1")),
    (["rate=0:1:1"], 1, ("sweep-range", "rate=0:1:1", "2 or more")),
    (["rate=0:1:3:4"], 1, ("sweep-range", "rate=", "low:high:count")),
    (["rate=0:1:x"], 1, ("sweep-range", "rate=", "low:high:count")),
    (["rate=nan:1:3"], 1, ("sweep-range", "rate=", "low:high:count")),
    (["rate=-1:1:3:log"], 1, ("sweep-range", "rate=-1:1:3:log", "above 0")),
    (["rate=nan,1"], 1, ("sweep-value", "rate", "nan")),
    (["width=1.5:3:3"], 1, ("sweep-range", "width=1.5:3:3", "whole numbers")),
    (["width=1,2.5"], 1, ("sweep-value", "--sweep width", "'2.5' is no int")),
    (["flag=maybe"], 1, ("sweep-value", "flag", "'maybe'", "write true or false")),
    (["flag=false:true:2"], 1, ("sweep-range", "flag=false:true:2", "write flag=true,false")),
    (["note='a,b"], 1, ("sweep-malformed", "a quote or bracket is open")),
    (["widths=(1,2"], 1, ("sweep-malformed", "a quote or bracket is open")),
    (["pair=1"], 1, ("sweep-value", "pair", "'1'", "1 values instead of 2")),
    (["optimizer=adm"], 1, ("unknown", "'adm'", "did you mean 'adam'?")),
    (["clip=x"], 1, ("sweep-value", "clip", "'x' is no float")),
    (["width=1:9"], 1, ("trials-missing", "width", "--trials")),
]


@pytest.mark.parametrize(("texts", "seeds", "says"), MISTAKES)
def test_mistakes_get_one_line(texts, seeds, says):
    with raises(*says):
        lanes(*texts, seeds=seeds)


@pytest.mark.parametrize(
    "value", ["日" * 130, "a[1]*?", "x\ny\x1b[2J\0", "..\\b", "../b", "\udcff", "b."]
)
def test_a_lane_s_name_is_that_of_a_folder_anywhere(tmp_path, value):
    name = lane_name(3, {"note": value})
    assert name.startswith("003-note=")
    assert name.isprintable()
    assert not set(name) & set("[*?/\\")
    (tmp_path / name).mkdir()
    assert (
        lane_name(0, {"rate": 1e-3, "data": "b/c.csv", "é": True})
        == "000-rate=0.001-data=b_c.csv-é=True"
    )
