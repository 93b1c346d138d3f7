"""What is asked of rare classes: rows that stand for many, a budget of rows to look at, and costs."""

import numpy as np
import pytest
from mistakes import raises

from dl.baselines.trees import tree_scores
from dl.data.drift import drift
from dl.data.splits import Splits
from dl.data.tables import class_weights, fitted, read_table, split
from dl.scores.tabular import (
    at_budget,
    binary_scores,
    cheapest,
    class_scores,
    cost,
    intervals,
    judged,
    scores,
)

DRAW = np.random.default_rng(0)
LABEL = (DRAW.random(300) < 0.2).astype(int)
CHANCE = np.clip(0.2 * LABEL + 0.6 * DRAW.random(300), 0, 1).round(2)
TIMES = DRAW.integers(1, 4, 300)


def test_a_row_of_weight_three_is_three_rows():
    label, chance = np.repeat(LABEL, TIMES), np.repeat(CHANCE, TIMES)
    for one, other in (
        (binary_scores(LABEL, CHANCE, weight=TIMES), binary_scores(label, chance)),
        (
            scores(LABEL, np.stack([1 - CHANCE, CHANCE], 1), TIMES),
            scores(label, np.stack([1 - chance, chance], 1)),
        ),
        (
            {"cost": cost(LABEL, CHANCE, 0.4, (1, 5), TIMES)},
            {"cost": cost(label, chance, 0.4, (1, 5))},
        ),
    ):
        assert one == pytest.approx(other)
    assert cheapest(LABEL, CHANCE, (1, 5), TIMES) == cheapest(label, chance, (1, 5))
    np.testing.assert_allclose(class_weights(LABEL, 2, TIMES), class_weights(label, 2))
    order = np.argsort(-CHANCE, kind="stable")
    expanded = np.repeat(order, TIMES[order])
    one = at_budget(LABEL, CHANCE, 0.1, TIMES)
    count = int(0.1 * TIMES.sum())
    assert one["precision@0.1"] == pytest.approx(LABEL[expanded][:count].mean(), abs=0.02)


def test_a_budget_and_costs_are_as_one_would_count_them():
    label, chance = np.array([0, 1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.2, 0.1])
    assert at_budget(label, chance, 0.4) == pytest.approx({"precision@0.4": 0.5, "recall@0.4": 0.5})
    assert at_budget(label, chance, 0.5)["precision@0.5"] == pytest.approx(1 / 2.5)
    every = [-1.0, *chance]
    for costs in ((1, 1), (1, 10), (10, 1)):
        best = min(cost(label, chance, level, costs) for level in every)
        assert cost(label, chance, cheapest(label, chance, costs), costs) == best
    with raises("range", "budget"):
        at_budget(label, chance, 0.0)


def test_all_that_is_asked_is_judged_and_the_threshold_is_validations():
    logits = np.stack([np.zeros(300), np.log(CHANCE + 0.01)], 1)
    part = {"label": LABEL, "weight": TIMES.astype(np.float32)}
    found = judged(part, logits, part, logits, budget=0.05, costs=(1, 20))
    assert {"auc", "average_precision", "ece_tempered", "precision@0.05", "cost"} <= found.keys()
    held = {"label": np.zeros(300, int)}
    assert judged(part, logits, held, logits, costs=(1, 20))["cost"] == pytest.approx(
        20 * np.average(LABEL, weights=TIMES)  # nothing held out is worth an alarm
    )
    # The temperature is that of the rows as often as they stand there.
    many = {"label": np.repeat(LABEL, TIMES)}
    longer = np.repeat(logits, TIMES, 0)
    repeated = judged(many, longer, many, longer)["ece_tempered"]
    assert found["ece_tempered"] == pytest.approx(repeated, abs=1e-5)
    ends = intervals(LABEL, logits, 50)
    assert ends["auc_low"] < found["auc"] + 0.1
    assert ends["auc_low"] < ends["auc_high"]
    assert class_scores(LABEL, np.eye(2)[LABEL] * 9)["mcc"] == pytest.approx(1)
    splits = Splits(part, part, part, read("y").info)
    chances = np.stack([1 - CHANCE, CHANCE], 1)
    assert "test/precision@0.05" in tree_scores(
        splits, dict.fromkeys(("train", "validation", "test"), chances), budget=0.05
    )


def read(target):
    import polars as pl

    from dl.data.splits import Info

    frame = pl.DataFrame(
        {"x": np.arange(40.0) ** 1.5, "word": ["a", "b"] * 20, "y": ["n", "y", "n", "n"] * 10}
    )
    table = read_table(frame, target)
    return split(
        table,
        Info("t", "t", "", "", "", "", table.classes),
        np.arange(20),
        np.arange(20, 30),
        np.arange(30, 40),
    )


def test_drift_tells_the_column_that_has_moved():
    splits = read("y")
    lines = drift(splits).splitlines()
    assert lines[0].split() == ["drift", "from", "train", "validation", "test"]
    assert [line.split()[0] for line in lines[1:]] == ["x", "word"]
    assert float(lines[1].split()[-1]) > 0.25 > float(lines[2].split()[-1])
    scaled, fit = fitted(splits, "standard", balanced=True)
    assert fit.shape == (2,)
    assert scaled.train["missing"].shape == (20, 1)
