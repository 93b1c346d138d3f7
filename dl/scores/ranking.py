"""What a recommender's order of all items is worth, by the places of the items that users took next."""

from collections.abc import Callable, Mapping

import numpy as np
from jax.typing import ArrayLike

from dl.core.column_checks import same_shape, within
from dl.core.errors import bounded
from dl.core.random import mix

_ROWS = 512  # scored at once


def ranks(scores: ArrayLike, item: np.ndarray, rivals: np.ndarray) -> np.ndarray:
    """How many ``rivals`` stand before each row's item, ``[rows]``: 0 where it is the first.

    An equal score stands before it, and so does NaN: a model that gives all items one score finds nothing.

    Args:
      scores: ``[rows, items]``, higher is better; item: int ``[rows]``; rivals: bool ``[rows, items]``, those
        that it is compared with (whether it is among them makes no difference).

    Raises:
      UserError: the shapes differ, or an item is none of the scored.
    """
    scores, item = np.asarray(scores), np.asarray(item)
    same_shape("the scores", scores, "rivals", rivals)
    same_shape("the rows of scores", scores[:, 0], "item", item)
    within("item", item, scores.shape[1])
    own = scores[np.arange(len(item)), item][:, None]
    before = ~(scores < own) & rivals
    before[np.arange(len(item)), item] = False
    return before.sum(1)


def rank_scores(rank: np.ndarray, at: int = 10) -> dict[str, float]:
    """``hit_rate@at``, the share of ranks ``[rows]`` below ``at``, and ``ndcg@at``, the mean of
    ``1 / log2(rank + 2)`` over those and 0 for the others (Järvelin & Kekäläinen 2002); NaN without rows."""
    bounded("at", at, at_least=1, whole=True)
    if not len(rank):
        return {f"hit_rate@{at}": float("nan"), f"ndcg@{at}": float("nan")}
    hit = rank < at
    gain = np.where(hit, 1 / np.log2(rank + 2), 0.0)
    return {f"hit_rate@{at}": float(hit.mean()), f"ndcg@{at}": float(gain.mean())}


def known_items(user: np.ndarray, of: Mapping[str, np.ndarray], items: int) -> np.ndarray:
    """Bool ``[rows, items]``: what each row's ``user [rows]`` has in the ratings ``of``, their ``user`` and
    ``item`` (quicker in order of user)."""
    if (np.diff(of["user"]) < 0).any():
        of = _by_user(of)
    first, last = (np.searchsorted(of["user"], user, side) for side in ("left", "right"))
    count = last - first
    row = np.repeat(np.arange(len(user)), count)
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + first[row]
    known = np.zeros((len(user), items), bool)
    known[row, of["item"][place]] = True
    return known


def best(scores: ArrayLike, known: np.ndarray, at: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The items of each row's highest ``scores [rows, items]`` but for the ``known [rows, items]``, of equals the
    first ahead, and their scores: both ``[rows, at]``; beyond what is left the score is -inf."""
    scores = np.where(known, -np.inf, np.asarray(scores))
    item = np.argsort(-scores, 1, kind="stable")[:, :at]
    return item, np.take_along_axis(scores, item, 1)


def ranking_scores(
    score: Callable[[slice], ArrayLike],
    part: Mapping[str, np.ndarray],
    before: Mapping[str, np.ndarray],
    items: int,
    at: int = 10,
    sampled: int = 99,
) -> dict[str, float]:
    """:func:`rank_scores` of the ratings of a part, each against all items that its user has not rated before,
    and, as ``..._of_100``, against 99 of these, drawn once for each rating (He et al. 2017).

    Samples flatter, and may put models in another order than all items do (Krichene & Rendle 2020).

    Args:
      score: ``(rows) -> [rows, items]`` for a slice of the part's rows.
      part: ``user`` and ``item`` int ``[rows]``; before: likewise, what is left out of the user's rivals.
      sampled: how many are drawn; 0 for no such figures.
    """
    bounded("at", at, at_least=1, whole=True)
    bounded("sampled", sampled, at_least=0, whole=True)
    before = _by_user(before)
    found: list[np.ndarray] = []
    against: list[np.ndarray] = []
    for start in range(0, len(part["item"]), _ROWS):
        rows = slice(start, start + _ROWS)
        user, item = part["user"][rows], part["item"][rows]
        scores, rivals = np.asarray(score(rows)), ~known_items(user, before, items)
        found.append(ranks(scores, item, rivals))
        rivals[np.arange(len(item)), item] = False
        against.append(ranks(scores, item, _drawn(user, item, rivals, sampled)))
    none = np.zeros(0, int)
    whole = rank_scores(np.concatenate([none, *found]), at)
    some = rank_scores(np.concatenate([none, *against]), at) if sampled else {}
    return whole | {f"{name}_of_{sampled + 1}": value for name, value in some.items()}


def _by_user(of: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    order = np.argsort(of["user"], kind="stable")
    return {name: np.asarray(of[name])[order] for name in ("user", "item")}


def _drawn(user: np.ndarray, item: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """``count`` of each row's ``among [rows, items]`` by a hash of the rating, or all where they are fewer."""
    rating = mix(mix(user.astype(np.uint32), np) ^ item.astype(np.uint32), np)[:, None]
    place = np.arange(among.shape[1], dtype=np.uint32)
    drawn = mix(rating ^ mix(place, np), np).astype(np.uint64) << np.uint64(32) | place
    drawn[~among] = np.iinfo(np.uint64).max
    chosen = np.argsort(drawn, 1)[:, :count]
    mask = np.zeros_like(among)
    np.put_along_axis(mask, chosen, True, 1)
    return mask & among
