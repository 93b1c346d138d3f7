"""Prices as cases: features as of pandas, parts by day, and nothing of a day in what is known before it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from mistakes import raises

import dl
from dl.data.markets import FEATURES, SPANS, cases, features, panel
from dl.data.sets.markets import by_day
from dl.data.splits import Info, Splits, take

DAYS, SHARES, BAND = 70, 4, (-0.005, 0.0055)


def made(seed=0):
    """Prices ``[shares, days, 5]`` of four shares, one of them listed late and once not dealt in."""
    draw = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(draw.normal(0, 0.02, (SHARES, DAYS)), 1))
    prices = close[..., None] * np.exp(draw.normal(0, 0.01, (SHARES, DAYS, 5)))
    prices[2, :12], prices[2, 20] = np.nan, np.nan
    return prices


def cut(prices, ends=(54, 62)):
    rows = by_day(prices)
    place = np.searchsorted(ends, rows["day"], side="right")
    parts = (take(rows, place == n) for n in range(3))
    details = {"shares": tuple("abcd"), "days": tuple(map(str, range(DAYS)))}
    info = Info("made", "made", "", "", "classification", "", ("falls", "rises"), details)
    return Splits(*parts, info)  # type: ignore[call-arg]


def test_features_are_those_of_pandas():
    prices = made()
    found = features(prices)
    assert found.shape == (SHARES, DAYS, len(FEATURES))
    for share in range(SHARES):
        table = pd.DataFrame(prices[share], columns=["open", "high", "low", "close", "adjusted"])
        moves = table[["close", "adjusted"]].pct_change(fill_method=None)
        told = [table[name] / table.close - 1 for name in ("open", "high", "low")]
        told += [moves["close"], moves["adjusted"]]
        told += [table.adjusted.rolling(n).mean() / table.adjusted - 1 for n in SPANS]
        np.testing.assert_allclose(found[share, :, :11], np.stack(told, 1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found[0, 40:, 11:], np.nanmean(found[:, 40:, :11], 0), atol=1e-12)


def test_cases_are_moves_after_windows_that_are_whole():
    prices = made()
    splits = cases(cut(prices), 3, BAND)
    known, test = features(prices), splits.test
    assert set(test["day"]) == set(range(62, DAYS))
    move = prices[test["share"], test["day"], 4] / prices[test["share"], test["day"] - 1, 4] - 1
    np.testing.assert_allclose(test["move"], move, rtol=1e-5)
    np.testing.assert_array_equal(test["label"], move >= BAND[1])
    np.testing.assert_array_equal(test["weight"], (move >= BAND[1]) | (move <= BAND[0]))
    assert splits.train["weight"].all()
    # The last row of a window is the close before the move, in deviations from the training mean.
    last = known[test["share"], test["day"] - 1]
    slope = np.polyfit(last[:, 4], test["window"][:, -1, 4], 1)
    np.testing.assert_allclose(test["window"][:, -1, 4], np.polyval(slope, last[:, 4]), atol=1e-4)
    flat = splits.train["window"].reshape(-1, len(FEATURES))
    assert np.abs(flat.mean(0)).max() < 0.1  # but for those cut off


@pytest.mark.parametrize("day", [64, 58])
def test_what_is_to_come_changes_nothing_before_it(day):
    """Another future, from a day on: all that is known before its close, and scaled by, stays to the bit."""
    one, other = made(), made()
    other[:, day:] *= np.random.default_rng(1).uniform(0.5, 2, other[:, day:].shape)
    np.testing.assert_array_equal(features(one)[:, :day], features(other)[:, :day])
    first, second = (cases(cut(prices), 3, BAND) for prices in (one, other))
    for name in ("train", "validation", "test"):
        # A window ends the day before its move, so those of that day are the same as well.
        a, b = (take(x.parts[name], x.parts[name]["day"] <= day) for x in (first, second))
        np.testing.assert_array_equal(a["window"], b["window"])
        a, b = (take(x, x["day"] < day) for x in (a, b))
        for column in a:
            np.testing.assert_array_equal(a[column], b[column])
    assert (first.test["move"] != second.test["move"]).any()


def test_cases_begin_where_the_set_says_and_need_days_before():
    splits = cut(made())
    details = splits.info.details | {"begin": 45}
    late = dataclasses.replace(splits, info=dataclasses.replace(splits.info, details=details))
    assert cases(late, 3, BAND).train["day"].min() == 45
    with raises("no-window", "train", "60 days before"):
        cases(splits, 60, BAND)
    with raises("target-one-class", "rises"):
        cases(splits, 3, (-0.005, 9.0))


def long_table(prices):
    rows = by_day(prices)
    table = pd.DataFrame(rows["prices"], columns=["Open", "High", "Low", "Close", "Adj Close"])
    table["symbol"] = np.array(list("wxyz"))[rows["share"]]
    table["date"] = np.datetime64("2024-01-01") + rows["day"]
    return table


@pytest.mark.parametrize("form", ["csv", "frame"])
def test_prices_of_ones_own_are_cut_by_day(tmp_path, form):
    prices = made()
    table = long_table(prices).sample(frac=1, random_state=0)
    source = table if form == "frame" else tmp_path / "prices.csv"
    if form == "csv":
        table.to_csv(source, index=False)
    splits = dl.data.open(source, "prices", hold_out=(0.1, 0.2))
    assert splits.info.details["shares"] == tuple("wxyz")
    ends = [(part["day"].min(), part["day"].max()) for part in splits.parts.values()]
    assert ends == [(0, 48), (49, 55), (56, 69)]
    np.testing.assert_allclose(panel(splits), np.where(np.isnan(prices), np.nan, prices))
    shown = {line.name: line.taken_for for line in splits.info.details["lines"]}
    assert shown["shares"] == "4"
    assert shown["column symbol"] == "share"


def test_one_share_with_a_close_alone_will_do():
    table = long_table(made())
    table = table[table.symbol == "w"][["date", "Close"]]
    splits = dl.data.open(table, "prices")
    assert (splits.train["prices"] == splits.train["prices"][:, :1]).all()
    assert cases(splits, 3, BAND).test["window"].shape[1:] == (3, len(FEATURES))


def test_mistakes_are_one_line():
    table = long_table(made())
    with raises("times-repeat", "two rows", "--share"):
        dl.data.open(pd.concat([table, table[:1]]), "prices")
    with raises("column-unnamed", "--close"):
        dl.data.open(table.drop(columns=["Close", "Adj Close"]), "prices")
    with raises("option-misplaced", "--folds", "in order"):
        dl.data.open(table, "prices", folds=3, fold=0)
    with raises("option-misplaced", "--group"):
        dl.data.open(table, "prices", group="symbol")
    with raises("table-empty", "above 0"):
        dl.data.open(table.assign(Close=0.0), "prices")
    part = np.where(table.date < table.date.median(), "test", "train")
    with raises("parts-out-of-order", "follow in time"):
        dl.data.open(table.assign(part=part), "prices", split="part")
    with raises("cell-unreadable", "Close", "dear"):
        dl.data.open(table.astype({"Close": str}).assign(Close="dear"), "prices")


def test_parts_of_the_files_are_kept_and_validation_comes_last_in_training():
    table = long_table(made())
    part = np.where(table.date < np.datetime64("2024-02-20"), "train", "test")
    splits = dl.data.open(table.assign(part=part), "prices", split="part")
    ends = [(each["day"].min(), each["day"].max()) for each in splits.parts.values()]
    assert ends == [(0, 44), (45, 49), (50, 69)]


@pytest.mark.data
def test_on_stocknet_there_are_as_many_cases_as_papers_count(data_dir):
    splits = dl.data.load("stocknet_prices", data_dir)
    counts = {}
    for name, part in cases(splits, 10, BAND).parts.items():
        counts[name] = int(part["weight"].sum())
    # Of 20,346 those of shares that were listed later lack days to look back on.
    assert counts == {"train": 20309, "validation": 2555, "test": 3720}


@pytest.mark.data
def test_exchange_rates_are_cut_as_published(data_dir):
    splits = dl.data.load("exchange_rate", data_dir)
    assert [len(part["values"]) for part in splits.parts.values()] == [5311, 760, 1517]
