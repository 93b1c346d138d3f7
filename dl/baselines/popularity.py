"""What a recommender has to be compared with: popular items, neighbours of items, means of users and items."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dl.data.splits import Columns, Splits
from dl.scores.ranking import ranking_scores
from dl.scores.regression import rmse

Scorer = Callable[[np.ndarray], Any]


def popularity(before: Columns, users: int, items: int) -> Scorer:
    """``(user [rows]) -> [rows, items]``: how many ratings each item has, of equals the first ahead."""
    order = np.argsort(-np.bincount(before["item"], minlength=items), kind="stable")
    place = np.empty(items)
    place[order] = -np.arange(items)
    return lambda user: np.broadcast_to(place, (len(user), items))


def item_neighbours(before: Columns, users: int, items: int) -> Scorer:
    """``(user [rows]) -> [rows, items]``: the cosines of each item with those that the user has rated, summed; an
    item is the set of its users (Sarwar et al. 2001; Deshpande & Karypis 2004, without a limit to neighbours)."""
    from scipy import sparse

    ones = np.ones(len(before["user"]))
    rated = sparse.csr_array((ones, (before["user"], before["item"])), (users, items))
    rated.data[:] = 1.0  # also what was rated twice
    alike = (rated.T @ rated).tocoo()
    each = np.sqrt(alike.diagonal())
    cosine = alike.data / (each[alike.row] * each[alike.col])
    cosine[alike.row == alike.col] = 0.0
    near = sparse.csr_array((cosine, (alike.row, alike.col)), (items, items))
    return lambda user: (rated[user] @ near).toarray()


def ranked(
    splits: Splits, fit: Callable[[Columns, int, int], Scorer], at: int = 10, sampled: int = 99
) -> dict[str, float]:
    """:func:`dl.scores.ranking.ranking_scores` of a simple rival by set (``test/hit_rate@10``).

    Args:
      splits: ``user`` and ``item`` int ``[rows]``; what comes before a part counts as rated before.
      fit: ``(before, users, items) -> scorer``, such as :func:`popularity`; the rival is fitted to all that comes
        before the part.
    """
    users, items = (_codes(splits, name) for name in ("user", "item"))
    found: dict[str, float] = {}
    for name, part in list(splits.parts.items())[1:]:
        before = splits.before(name)
        score = _by_rows(fit(before, users, items), part["user"])
        scores = ranking_scores(score, part, before, items, at, sampled)
        found |= {f"{name}/{metric}": value for metric, value in scores.items()}
    return found


def ranking_baselines(splits: Splits) -> Mapping[str, Mapping[str, float]]:
    """Of both, for :class:`dl.Experiment`'s ``baselines``."""
    return {
        "popularity": ranked(splits, popularity),
        "item neighbours": ranked(splits, item_neighbours),
    }


def bias_scores(splits: Splits, damping: float = 5.0, rounds: int = 10) -> dict[str, float]:
    """``rmse`` of the training mean plus an item's and a user's bias, each drawn to 0 by ``damping`` ratings
    (Koren 2008, "Factorization meets the neighborhood") and fitted in turn, by set."""
    train, mean = splits.train, float(splits.train["value"].mean(dtype=np.float64))

    def bias(rest: np.ndarray, code: np.ndarray, size: int) -> np.ndarray:
        return np.bincount(code, rest, size) / (np.bincount(code, minlength=size) + damping)

    rest, user = train["value"] - mean, np.zeros(_codes(splits, "user"))
    for _ in range(rounds):
        item = bias(rest - user[train["user"]], train["item"], _codes(splits, "item"))
        user = bias(rest - item[train["item"]], train["user"], len(user))

    def error(part: Columns) -> float:
        return rmse(mean + item[part["item"]] + user[part["user"]], part["value"])

    return {f"{name}/rmse": error(part) for name, part in splits.parts.items() if name != "train"}


def _by_rows(scorer: Scorer, user: np.ndarray) -> Callable[[slice], Any]:
    return lambda rows: scorer(user[rows])


def _codes(splits: Splits, column: str) -> int:
    return 1 + max(int(part[column].max()) for part in splits.parts.values())
