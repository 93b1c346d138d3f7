"""Places of items among all or among some, against plain loops over the definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.scores.ranking import best, known_items, rank_scores, ranking_scores, ranks

DRAW = np.random.default_rng(0)


def by_hand(scores, part, before, items, at):
    """The definitions of He et al. 2017 for one rating after another."""
    hits, gains = [], []
    for row, (user, item) in enumerate(zip(part["user"], part["item"], strict=True)):
        seen = {i for u, i in zip(before["user"], before["item"], strict=True) if u == user}
        others = [i for i in range(items) if i not in seen and i != item]
        place = sum(1 for i in others if not scores[row][i] < scores[row][item])
        hits.append(place < at)
        gains.append(1 / np.log2(place + 2) if place < at else 0.0)
    return {f"hit_rate@{at}": np.mean(hits), f"ndcg@{at}": np.mean(gains)}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 30), st.integers(1, 12), st.booleans()
)
def test_against_all_items_as_by_hand(seed, rows, items, at, tied):
    draw = np.random.default_rng(seed)
    part = {"user": draw.integers(0, 5, rows), "item": draw.integers(0, items, rows)}
    before = {"user": draw.integers(0, 5, 50), "item": draw.integers(0, items, 50)}
    scores = draw.integers(0, 3, (rows, items)) / 2 if tied else draw.normal(size=(rows, items))
    found = ranking_scores(lambda some: scores[some], part, before, items, at, 0)
    assert found == pytest.approx(by_hand(scores, part, before, items, at))


def test_more_rows_than_are_scored_at_once():
    part = {"user": DRAW.integers(0, 700, 1100), "item": DRAW.integers(0, 20, 1100)}
    before = {"user": DRAW.integers(0, 700, 900), "item": DRAW.integers(0, 20, 900)}
    scores, asked = DRAW.normal(size=(1100, 20)), []

    def score(rows):
        asked.append(len(scores[rows]))
        return scores[rows]

    found = ranking_scores(score, part, before, 20, 3, 0)
    assert found == pytest.approx(by_hand(scores, part, before, 20, 3))
    assert max(asked) <= 512


def test_the_sampled_are_unseen_drawn_once_and_flatter():
    users, items = 400, 300
    part = {"user": np.arange(users), "item": DRAW.integers(0, items, users)}
    before = {"user": np.repeat(np.arange(users), 50), "item": DRAW.integers(0, items, users * 50)}
    nothing = DRAW.normal(size=(users, items))
    found = ranking_scores(lambda rows: nothing[rows], part, before, items)
    again = ranking_scores(lambda rows: nothing[rows], part, before, items)
    assert found == again
    # By chance 10 of 100, against 10 of some 255 unseen.
    assert found["hit_rate@10_of_100"] == pytest.approx(0.10, abs=0.05)
    assert found["hit_rate@10"] == pytest.approx(10 / 255, abs=0.03)
    # What was seen is no rival: were it drawn, it would stand ahead of the item.
    shuffled = DRAW.permutation(users * 50)  # in whichever order
    seen = known_items(part["user"], {n: x[shuffled] for n, x in before.items()}, items)
    scores = np.where(seen, 2.0, 0.0)
    scores[np.arange(users), part["item"]] = 1.0
    found = ranking_scores(lambda rows: scores[rows], part, before, items)
    assert set(found.values()) == {1.0}


def test_fewer_items_than_are_drawn_are_all_of_them():
    part = {"user": np.array([0, 1]), "item": np.array([0, 1])}
    before = {"user": np.array([0]), "item": np.array([2])}
    scores = np.array([[1.0, 2, 9, 0], [3.0, 2, 1, 0]])
    found = ranking_scores(lambda rows: scores[rows], part, before, 4, at=1)
    assert found["hit_rate@1"] == found["hit_rate@1_of_100"] == 0.0
    found = ranking_scores(lambda rows: scores[rows], part, before, 4, at=2)
    assert found["hit_rate@2"] == found["hit_rate@2_of_100"] == 1.0


def test_one_score_for_all_and_nan_find_nothing():
    every = np.ones((2, 5), bool)
    for nothing in (np.zeros((2, 5)), np.full((2, 5), np.nan)):
        assert ranks(nothing, np.array([0, 3]), every).tolist() == [4, 4]
    some = np.array([[1.0, np.nan, 0, 0, 0]])
    assert ranks(some, np.array([0]), every[:1]).tolist() == [1]


def test_without_rows_there_is_no_score():
    assert np.isnan(list(rank_scores(np.zeros(0, int)).values())).all()
    none = {"user": np.zeros(0, int), "item": np.zeros(0, int)}
    found = ranking_scores(lambda rows: np.zeros((0, 3)), none, none, 3)
    assert np.isnan(list(found.values())).all()


def test_the_best_leave_out_what_is_known():
    scores = np.array([[5.0, 4, 3, 4], [0.0, 1, 2, 3]])
    known = np.array([[True, False, False, False], [True, True, True, False]])
    item, score = best(scores, known, 2)
    assert item[0].tolist() == [1, 3]
    assert score.tolist() == [[4.0, 4.0], [3.0, -np.inf]]


def test_mistakes_are_told():
    every = np.ones((2, 3), bool)
    with raises("shapes-differ", "rivals"):
        ranks(np.zeros((2, 4)), np.zeros(2, int), every)
    with raises("shapes-differ", "item"):
        ranks(np.zeros((2, 3)), np.zeros(3, int), every)
    with raises("class-out-of-range", "0 to 2"):
        ranks(np.zeros((2, 3)), np.array([0, 3]), every)
    one = {"user": np.zeros(1, int), "item": np.zeros(1, int)}
    with raises("range", "at must be", "1 or more"):
        ranking_scores(lambda rows: np.zeros((1, 3)), one, one, 3, at=0)
