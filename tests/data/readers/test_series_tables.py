"""Series are read from any table, and their times are in order, each once, without gaps, or said not to be."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.data.readers.series_tables import check_times, read_csv_series


def test_a_frame_reads_as_its_csv_file_does(tmp_path):
    rng = np.random.default_rng(0)
    when = pd.date_range("2021-03-01", periods=30, freq="h")
    frame = pd.DataFrame({"when": when, "a": rng.normal(size=30), "b": 1e8 + rng.normal(size=30)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "b.csv", index=False, sep=";", decimal=",")
    frame.to_parquet(tmp_path / "c.parquet", index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the semicolon and the decimal comma, which are guessed
        found = [read_csv_series(tmp_path / name) for name in ("a.csv", "b.csv", "c.parquet")]
    indexed = frame.rename(columns={"when": "x"}).set_index("x")
    for names, times, values in (*found, read_csv_series(frame), read_csv_series(indexed)):
        assert names == ["a", "b"]
        np.testing.assert_array_equal(times, when.to_numpy())
        np.testing.assert_array_equal(values, frame[["a", "b"]])


def test_a_frame_of_periods_is_one_of_the_times_they_begin_at():
    frame = pd.DataFrame({"a": range(12)}, index=pd.period_range("2024-01", periods=12, freq="M"))
    _, times, values = read_csv_series(frame)
    np.testing.assert_array_equal(times, np.arange("2024-01", "2025-01", dtype="datetime64[M]"))
    np.testing.assert_array_equal(values[:, 0], range(12))
    numbered = pd.DataFrame({"a": range(3)}, index=[2000, 2001, 2002])
    with raises("series-no-variables", "'a'", "the frame's index is left out"):
        read_csv_series(numbered)


def _text(times, values=None):
    values = range(len(times)) if values is None else values
    return "\n".join(
        ["date,a", *(f"{t},{v}" for t, v in zip(times, values, strict=True)), ""]
    ).encode()


@pytest.mark.parametrize(
    ("times", "first", "last"),
    [
        (["2020-01-31", "2020-02-29", "2020-03-31"], "2020-01-31", "2020-03-31"),
        (["2020-01-15", "2020-04-15", "2020-07-15"], "2020-01-15", "2020-07-15"),
        (["2020-01-02", "2020-01-03", "2020-01-06"], "2020-01-02", "2020-01-06"),  # a weekend
        (["2019-01-01", "2020-01-01", "2021-01-01"], "2019-01-01", "2021-01-01"),
        (["31.12.2020", "01.01.2021", "02.01.2021"], "2020-12-31", "2021-01-02"),
        (["2020-01-01 00:00:00.5", "2020-01-01 00:00:01"], "2020-01-01 00:00:00.5", "2020-01-01 00:00:01"),
        (["2020-01-01T01:00+01:00", "2020-01-01T02:00+01:00"], "2020-01-01 00:00", "2020-01-01 01:00"),
        ([20240131, 20240201, 20240202], "2024-01-31", "2024-02-02"),
        ([5, 6, 7], 5, 7),
        ([1_700_000_000_000_000_001, 1_700_000_000_000_000_002], 1_700_000_000_000_000_001, None),
        ([0.0, 0.33, 0.67, 1.0], 0.0, 1.0),
        (["2020-01-01"], "2020-01-01", "2020-01-01"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:the table")
def test_regular_times_are_read(times, first, last):
    _, found, values = read_csv_series(_text(times))
    kind = np.datetime64 if isinstance(first, str) else type(first)
    assert found[0] == kind(first)
    assert last is None or found[-1] == kind(last)
    assert len(found) == len(values) == len(times)


@pytest.mark.parametrize(
    ("times", "values", "says"),
    [
        (["2020-01-02", "2020-01-01"], None, ("times-out-of-order", "line 3: 2020-01-01", "line 2", "sort=True")),
        (["2020-01-01", "2020-01-01"], None, ("times-repeat", "line 3: 2020-01-01", "line 2")),
        ([7, 6, 5], None, ("times-out-of-order", "line 3: 6", "line 2, 7", "2 such rows")),
        (["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-05"], None,
         ("times-uneven", "line 5: 2020-01-05", "by 2 days", "by 1 day", "1 such gaps")),
        ([0, 1, 2, 4], None, ("times-uneven", "line 5: 4 follows 2 by 2", "by 1")),
        (["2020-01-31", "2020-02-29", "2020-04-30"], None, ("times-uneven", "line 4")),
        (["2020-01-01", "", "2020-01-03"], None, ("time-missing", "line 3, column 'date'")),
        (["2020-01-01", "NaT", "2020-01-03"], None, ("time-missing", "line 3, column 'date'")),
        ([1, "", 3], None, ("time-missing", "line 3, column 'date'")),
        (["2020-01-01", "soon"], None, ("cell-unreadable", "line 3, column 'date'", "'soon'", "dates='%d")),
        (["2020-01-01T00:00Z", "2020-01-01T01:00"], None, ("time-zones-mixed", "line 2", "line 3")),
        (["01/02/2020", "02/02/2020"], None, ("dates-ambiguous", "dates=")),
        (["2020-01-01", "2020-01-02"], [1, ""], ("value-missing", "line 3, column 'a'", "(None; 1 such")),
        (["2020-01-01", "2020-01-02"], ["NA", 1], ("value-missing", "line 2, column 'a'", "('NA'")),
        (["2020-01-01", "2020-01-02"], ["inf", 1], ("cell-unreadable", "line 2, column 'a'", "'inf'")),
        (["2020-01-01", "2020-01-02"], ["1_5", 1], ("cell-unreadable", "line 2, column 'a'", "'1_5'")),
        (["2020-01-01", "2020-01-02"], [2**53, 2**53 + 1],
         ("digits-lost", "column 'a' holds 2 whole numbers beyond 2**53", "float64 keeps 1 apart")),
        (["2020-01-01", "2020-01-02"], ["1e200", 1], ("number-too-large", "column 'a'", "1e150")),
    ],
)  # fmt: skip
def test_what_is_no_regular_series_is_one_line(times, values, says):
    with raises(*says):
        read_csv_series(_text(times, values))


def test_disorder_gaps_and_missing_values_are_taken_when_asked_for():
    shuffled = _text(["2020-01-03", "2020-01-01", "2020-01-02"])
    with pytest.warns(UserWarning, match="3 rows were brought into the order of time"):
        _, times, values = read_csv_series(shuffled, sort=True)
    assert (np.diff(times) > np.timedelta64(0)).all()
    assert values[:, 0].tolist() == [1, 2, 0]
    gapped = _text(["2020-01-01", "2020-01-02", "2020-01-09"])
    assert len(read_csv_series(gapped, regular=False)[1]) == 3
    twice = _text(["2020-01-02", "2020-01-02", "2020-01-03"])
    with raises("times-repeat"):
        read_csv_series(twice, sort=True, regular=False)
    missing = _text(["2020-01-01", "2020-01-02"], ["", 5])
    np.testing.assert_array_equal(read_csv_series(missing, keep_missing=True)[2], [[np.nan], [5]])


def test_the_time_column_is_found_and_shown():
    for heading, text in (
        ("stamp", b"a,stamp\n1,2020-01-01\n2,2020-01-02\n"),
        ("Date", b"a,Date\n1,5\n2,6\n"),
    ):
        with pytest.warns(UserWarning, match=f"times are column '{heading}'"):
            names, times, values = read_csv_series(text)
        assert names == ["a"]
        assert values[:, 0].tolist() == [1, 2]
        assert len(times) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is plain needs no word
        read_csv_series(_text(["2020-01-01", "2020-01-02"]))
        read_csv_series(b"a,b\n1,7\n2,6\n", time="a")
    with raises("unknown", "column 'dat'", "'date'"):
        read_csv_series(_text([1, 2]), time="dat")
    with raises("series-no-variables", "'date'"):
        read_csv_series(b"date\n2020-01-01\n")


def test_times_of_another_kind_are_refused():
    for wrong in (np.array(["a", "b"]), np.zeros((3, 2))):
        with raises("times-not-dates"):
            check_times(wrong, "x")


def test_offsets_that_differ_are_brought_to_one_zone_and_said():
    summer = ["2020-03-29T01:00+01:00", "2020-03-29T03:00+02:00", "2020-03-29T04:00+02:00"]
    with pytest.warns(UserWarning, match=r"zones \+01:00, \+02:00 were brought to UTC"):
        _, times, _ = read_csv_series(_text(summer))
    assert times[0] == np.datetime64("2020-03-29T00:00")
    assert (np.diff(times) == np.timedelta64(1, "h")).all()


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["s", "7min", "h", "D", "W", "MS", "ME", "QE", "YS", "B"]),
    st.integers(3, 40),
    st.data(),
)
def test_pandas_frequencies_are_regular_and_a_lost_or_moved_row_is_found(freq, count, data):
    when = pd.date_range("2019-12-02", periods=count, freq=freq).to_numpy("datetime64[s]")
    check_times(when, "x")
    if count > 4:  # the lost row may stand anywhere between two others
        lost = data.draw(st.integers(1, count - 2))
        with raises("times-uneven"):
            check_times(np.delete(when, lost), "x")
    place = data.draw(st.integers(0, count - 2))
    moved = when.copy()
    moved[[place, place + 1]] = moved[[place + 1, place]]
    with raises("times-out-of-order", f"row {place + 1}"):
        check_times(moved, "x")
