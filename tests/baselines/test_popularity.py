"""The most popular items, and what users and items add to a mean."""

import numpy as np
import pytest

import dl
from dl.baselines.popularity import bias_scores, popularity_scores, rating_baselines


def test_popularity_by_hand():
    info = dl.data.Info("ratings", *5 * [""])
    train = {"user": np.array([0, 1, 2, 0, 1, 0]), "item": np.array([0, 0, 0, 1, 1, 2])}
    test = {"user": np.array([2, 1, 0]), "item": np.array([1, 2, 3])}
    splits = dl.data.Splits(train, {}, test, info)
    # By popularity 0, 1, 2, 3; what each has not rated: of user 2 1, 2, 3; of 1 2, 3; of 0 3.
    assert popularity_scores(splits, at=1) == {"test/hit_rate@1": 1.0, "test/ndcg@1": 1.0}
    test["item"] = np.array([3, 3, 3])
    found = popularity_scores(splits, at=2)
    assert found["test/hit_rate@2"] == pytest.approx(2 / 3)
    assert found["test/ndcg@2"] == pytest.approx((1 / np.log2(3) + 1) / 3)


def test_biases_learn_what_users_and_items_add():
    user, item = np.divmod(np.arange(400), 20)
    value = (3 + user / 10 - item / 10).astype(np.float32)
    rows = {"user": user.astype(np.int32), "item": item.astype(np.int32), "value": value}
    held = np.arange(400) % 7 == 0
    parts = [{name: column[rows_of] for name, column in rows.items()} for rows_of in (~held, held)]
    splits = dl.data.Splits(parts[0], {}, parts[1], dl.data.Info("ratings", *5 * [""]))
    assert bias_scores(splits, damping=0)["test/rmse"] < 0.1 * value.std()
    both = rating_baselines(splits)
    assert set(both["popularity"]) == {"test/hit_rate@10", "test/ndcg@10"}
    assert both["biases"] == bias_scores(splits)
