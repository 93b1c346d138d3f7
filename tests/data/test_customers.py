"""Customers at a cut: what they bought before it by hand, and nothing of what they buy after it but how often."""

import numpy as np
import pandas as pd
import pytest
from mistakes import raises

import dl
from dl.data.customers import FEATURES, PROFILE, customers_at, scaled
from dl.data.splits import Info, Splits

CUSTOMER = np.array([7, 7, 7, 7, 9, 9, 9, 4])
DAY = np.array([0, 14, 14, 75, 10, 72, 99, 71])
ITEMS = np.array([1, 2, 3, 1, 5, 1, 1, 1.0])
AMOUNT = np.array([10, 20, 30, 9, 50, 9, 9, 9.0])


def test_columns_by_hand():
    rows, who = customers_at(CUSTOMER, DAY, ITEMS, AMOUNT, 71, 28)
    np.testing.assert_array_equal(who, [7, 9])  # 4 first bought on the cut
    np.testing.assert_array_equal(rows["repeat"], [1, 0])  # days, not rows
    np.testing.assert_allclose(rows["recency"], [2, 0])
    np.testing.assert_allclose(rows["age"], [10, 60 / 7], rtol=1e-6)
    np.testing.assert_array_equal(rows["later"], [1, 1])  # day 99 is beyond the 28 days
    profile = dict(zip(PROFILE, rows["profile"].T, strict=True))
    np.testing.assert_allclose(profile["purchases"], [3, 1])
    np.testing.assert_allclose(profile["weeks since the last"], [8, 60 / 7], rtol=1e-6)
    np.testing.assert_allclose(profile["items a purchase"], [2, 5])
    np.testing.assert_allclose(profile["amount a purchase"], [20, 50])
    assert rows["history"].shape == (2, len(FEATURES))
    bins = np.expm1(rows["history"][:, -10:])
    np.testing.assert_allclose(bins.sum(1), [3, 1], rtol=1e-6)
    assert bins[0, 9] == pytest.approx(1)  # the first day is in the last tenth back


def test_what_is_bought_after_the_cut_changes_no_feature():
    draw = np.random.default_rng(0)
    customer, day = draw.integers(0, 30, 400), draw.integers(0, 100, 400)
    some = draw.random(400), draw.random(400)
    one, who = customers_at(customer, day, *some, 60, 40)
    late = day >= 60
    again = np.where(late, draw.integers(0, 30, 400), customer)
    moved = np.where(late, draw.integers(60, 100, 400), day)
    changed = (np.where(late, 9.0, values) for values in some)
    other, same = customers_at(again, moved, *changed, 60, 40)  # type: ignore[call-arg]
    np.testing.assert_array_equal(who, same)
    for name in one:
        equal = (one[name] == other[name]).all()
        assert equal == (name != "later"), name


def test_a_network_takes_what_training_customers_scale():
    draw = np.random.default_rng(0)
    customer, day = draw.integers(0, 60, 600), draw.integers(0, 100, 600)
    rows, _ = customers_at(customer, day, np.ones(600), np.ones(600), 60, 40)
    train, test = ({n: x[s] for n, x in rows.items()} for s in (slice(0, 40), slice(40, None)))
    said = {"train": np.full(40, 0.5), "test": np.full(len(test["later"]), 0.25)}
    found = scaled(Splits(train, {}, test, Info("made", *5 * [""])), said)
    assert found.train["features"].shape == (40, len(FEATURES) + 1)
    assert np.abs(found.train["features"].mean(0)).max() < 0.2
    np.testing.assert_allclose(np.exp(found.train["offset"]), train["later"].mean(), rtol=1e-5)
    np.testing.assert_allclose(np.exp(found.test["offset"]), train["later"].mean() / 2, rtol=1e-5)


def table():
    draw = np.random.default_rng(0)
    days = np.datetime64("2024-01-01") + draw.integers(0, 200, 500)
    return pd.DataFrame({"client": draw.integers(100, 180, 500), "date": days, "price": 3.5})


def test_purchases_of_ones_own_are_cut_in_time(tmp_path):
    table().to_csv(tmp_path / "sales.csv", index=False)
    splits = dl.data.open(tmp_path / "sales.csv", "purchases", cut="2024-05-01")
    sizes = [len(part["later"]) for part in splits.parts.values()]
    assert sum(sizes) == len(set(table()[table().date < "2024-05-01"].client))
    whole = np.concatenate([part["later"] for part in splits.parts.values()])
    known = set(table()[table().date < "2024-05-01"].client)
    later = table()[(table().date >= "2024-05-01") & table().client.isin(known)]
    assert whole.sum() == len(later)
    assert splits.info.details["weeks"] == pytest.approx(
        (later.date.max() - pd.Timestamp("2024-04-30")).days / 7
    )
    shown = {line.name: line.taken_for for line in splits.info.details["lines"]}
    assert shown["cut"] == "2024-05-01"
    assert shown["column client"] == "customer"


def test_mistakes_are_one_line():
    some = table()
    with raises("range", "--cut 2025-01-01", "2024"):
        dl.data.open(some, "purchases", cut="2025-01-01")
    with raises("times-not-dates", "--cut soon"):
        dl.data.open(some, "purchases", cut="soon")
    with raises("column-unnamed", "--customer"):
        dl.data.open(some.drop(columns="client"), "purchases")
    with raises("option-misplaced", "drawn by seed"):
        dl.data.open(some, "purchases", in_order=True)
    with raises("times-not-dates", "numbers"):
        dl.data.open(some.assign(date=np.arange(500)), "purchases")
    with raises("part-empty", "earlier"):
        customers_at(np.array([1, 2]), np.array([0, 9]), *2 * [np.ones(2)], 5, 9)  # type: ignore[call-arg]
    with raises("cell-unreadable", "price", "much"):
        dl.data.open(some.assign(price="much"), "purchases")


@pytest.mark.data
def test_on_cdnow_every_tenth_customer_is_test(data_dir):
    splits = dl.data.load("cdnow", data_dir)
    assert splits.info.sizes == {"train": 19092, "validation": 2121, "test": 2357}
    whole = np.concatenate([part["later"] for part in splits.parts.values()])
    assert (whole > 0).mean() == pytest.approx(0.2995, abs=1e-3)
