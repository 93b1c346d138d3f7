"""The most popular items, and what users and items add to a mean."""

import numpy as np
import pytest

import dl
from dl.baselines.popularity import (
    bias_scores,
    item_neighbours,
    popularity,
    ranked,
    ranking_baselines,
)


def test_popularity_by_hand():
    info = dl.data.Info("ratings", *5 * [""])
    train = {"user": np.array([0, 1, 2, 0, 1, 0]), "item": np.array([0, 0, 0, 1, 1, 2])}
    test = {"user": np.array([2, 1, 0]), "item": np.array([1, 2, 3])}
    splits = dl.data.Splits(train, {}, test, info)
    # By popularity 0, 1, 2, 3; what each has not rated: of user 2 1, 2, 3; of 1 2, 3; of 0 3.
    assert ranked(splits, popularity, 1, 0) == {"test/hit_rate@1": 1.0, "test/ndcg@1": 1.0}
    test["item"] = np.array([3, 3, 3])
    found = ranked(splits, popularity, 2, 0)
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
    both = ranking_baselines(splits)
    names = ("hit_rate@10", "ndcg@10", "hit_rate@10_of_100", "ndcg@10_of_100")
    assert set(both["popularity"]) == set(both["item neighbours"]) == {f"test/{n}" for n in names}


def test_neighbours_are_cosines_by_hand():
    before = {"user": np.array([0, 0, 1, 1, 2, 2]), "item": np.array([0, 1, 0, 2, 0, 0])}
    found = item_neighbours(before, 3, 4)(np.array([2, 0]))
    # Items 1 and 2 share one user each with 0, which has three; 3 has nobody.
    one = 1 / np.sqrt(3)
    np.testing.assert_allclose(found, [[0, one, one, 0], [one, one, one, 0]], atol=1e-12)


def test_a_rival_knows_all_that_comes_before_a_part():
    info = dl.data.Info("ratings", *5 * [""])
    parts = [
        {"user": np.array(u), "item": np.array(i)}
        for u, i in (([0, 1], [0, 1]), ([1], [2]), ([0], [2]))
    ]
    found = ranked(dl.data.Splits(*parts, info), popularity, 1, 0)  # type: ignore[call-arg]
    assert found == {
        "validation/hit_rate@1": 0.0,
        "validation/ndcg@1": 0.0,
        "test/hit_rate@1": 0.0,  # 1 was there first
        "test/ndcg@1": 0.0,
    }
    parts[1] = {"user": np.array([1, 2]), "item": np.array([2, 2])}
    assert ranked(dl.data.Splits(*parts, info), popularity, 1, 0)["test/hit_rate@1"] == 1.0  # type: ignore[call-arg]


@pytest.mark.data
def test_on_movielens_rivals_are_as_published(data_dir):
    splits = dl.data.load("movielens_100k", data_dir)
    found = ranked(splits, item_neighbours)
    assert found["test/hit_rate@10"] == pytest.approx(0.109, abs=5e-4)
    assert found["test/ndcg@10"] == pytest.approx(0.056, abs=5e-4)
