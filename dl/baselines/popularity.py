"""What a recommender has to be compared with: the most popular items, and means of users and items."""

from collections.abc import Mapping

import numpy as np

from dl.data.splits import Columns, Splits


def popularity_scores(splits: Splits, at: int = 10) -> dict[str, float]:
    """``hit_rate@10`` and ``ndcg@10`` of always recommending the items with the most training ratings that the
    user has not rated before, by set (``test/hit_rate@10``), averaged over the ratings held out.

    Args:
      splits: ``user`` and ``item`` int ``[rows]``; what comes before a part counts as rated before.
    """
    counts = np.bincount(splits.train["item"], minlength=_codes(splits, "item"))
    place = np.empty(len(counts), np.int64)
    place[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    rated, found = [splits.train], {}
    for name, part in list(splits.parts.items())[1:]:
        users = np.concatenate([before["user"] for before in rated])
        places = place[np.concatenate([before["item"] for before in rated])]
        # Items before this one in the order of popularity, but for those that the user has rated.
        pairs = np.unique(users.astype(np.int64) * len(counts) + places)
        mine = part["user"].astype(np.int64) * len(counts)
        known = np.searchsorted(pairs, mine + place[part["item"]]) - np.searchsorted(pairs, mine)
        rank = place[part["item"]] - known
        hit = rank < at
        found[f"{name}/hit_rate@{at}"] = float(hit.mean())
        found[f"{name}/ndcg@{at}"] = float(np.where(hit, 1 / np.log2(rank + 2), 0).mean())
        rated.append(part)
    return found


def bias_scores(splits: Splits, damping: float = 10.0) -> dict[str, float]:
    """``rmse`` of the training mean plus an item's and a user's bias, each drawn to 0 by ``damping``
    ratings (Koren 2008, "Factorization meets the neighborhood"), by set."""
    train, mean = splits.train, float(splits.train["value"].mean(dtype=np.float64))

    def bias(rest: np.ndarray, code: np.ndarray, size: int) -> np.ndarray:
        return np.bincount(code, rest, size) / (np.bincount(code, minlength=size) + damping)

    rest = train["value"] - mean
    item = bias(rest, train["item"], _codes(splits, "item"))
    user = bias(rest - item[train["item"]], train["user"], _codes(splits, "user"))

    def error(part: Columns) -> float:
        said = mean + item[part["item"]] + user[part["user"]]
        return float(np.sqrt(np.square(said - part["value"]).mean()))

    return {f"{name}/rmse": error(part) for name, part in splits.parts.items() if name != "train"}


def rating_baselines(splits: Splits) -> Mapping[str, Mapping[str, float]]:
    """Both, for :class:`dl.Experiment`'s ``baselines``."""
    return {"popularity": popularity_scores(splits), "biases": bias_scores(splits)}


def _codes(splits: Splits, column: str) -> int:
    return 1 + max(int(part[column].max()) for part in splits.parts.values())
