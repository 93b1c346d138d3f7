"""What forecasts of customers' purchases are worth, and segments of customers that buy alike."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dl.scores.regression import rmse
from dl.scores.tabular import auc


def purchase_scores(
    part: Mapping[str, np.ndarray], said: np.ndarray, again: np.ndarray | None = None
) -> dict[str, float]:
    """``rmse`` of the numbers of purchases ``said [rows]`` beside ``part["later"]``, and ``auc``: how well they,
    or where given the log-odds ``again [rows]``, tell who buys again from who does not; none where all do or none
    does."""
    later = np.asarray(part["later"], np.float64)
    area = auc(later > 0, said if again is None else again)
    return {"rmse": rmse(said, later)} | ({} if np.isnan(area) else {"auc": area})


SAMPLE = 4000  # training customers that segments are made of


class Segments(NamedTuple):
    """Customers whose codes lie together.

    Attributes:
      centres: ``[segments, code]``, those that buy least later first.
      rates: ``[segments]``, later purchases of a training customer of each.
    """

    centres: np.ndarray
    rates: np.ndarray

    def of(self, codes: np.ndarray) -> np.ndarray:
        """The segment of each row of ``codes [rows, code]``, that of the nearest centre."""
        apart = ((np.asarray(codes, np.float64)[:, None] - self.centres) ** 2).sum(-1)
        return apart.argmin(1)


def deviance(later: np.ndarray, rate: np.ndarray) -> float:
    """The mean Poisson deviance of counts from rates above 0: 0 where they agree."""
    counts = np.maximum(later, 1e-12)
    return float(
        2 * np.mean(np.where(later > 0, later * np.log(counts / rate), 0) - (later - rate))
    )


def chosen_segments(
    codes: np.ndarray,
    later: np.ndarray,
    held_codes: np.ndarray,
    held_later: np.ndarray,
    most: int = 8,
) -> Segments:
    """Segments by k-means of training customers' codes, as many (2 to ``most``) as tell best how often validation
    customers buy: by the least Poisson deviance of these from their segment's mean in training."""
    from sklearn.cluster import KMeans

    some = np.random.default_rng(0).permutation(len(codes))[:SAMPLE]
    codes, later = codes[some], later[some]
    best: tuple[float, Segments] | None = None
    for count in range(2, min(most, len(np.unique(codes, axis=0))) + 1):
        found = KMeans(count, n_init=2, random_state=0).fit(codes)
        size = np.bincount(found.labels_, minlength=count)
        # As if half a customer of the mean were in each: a segment may have nobody who buys.
        rates = (np.bincount(found.labels_, later, count) + later.mean() / 2) / (size + 0.5)
        order = rates.argsort()
        own = Segments(found.cluster_centers_[order].astype(np.float64), rates[order])
        apart = deviance(held_later, own.rates[own.of(held_codes)])
        if best is None or apart < best[0]:
            best = apart, own
    if best is None:  # all codes are one
        return Segments(np.asarray(codes[:1], np.float64), np.array([later.mean()]))
    return best[1]


def told_apart(
    segment: np.ndarray, profile: np.ndarray, later: np.ndarray, names: Sequence[str], most: int = 3
) -> str:
    """What sets each segment apart, as a text: its share of the customers, how many buy again and how often, and
    the medians of the features whose mean ranks are furthest from those of all."""
    from scipy.stats import rankdata

    ranks = rankdata(profile, axis=0) / len(profile)
    lines = []
    for number in np.unique(segment):
        inside = segment == number
        away = ranks[inside].mean(0) - ranks.mean(0)
        chosen = np.argsort(-np.abs(away), kind="stable")[:most]
        told = "; ".join(
            f"{names[n]} {np.median(profile[inside, n]):.3g} (all {np.median(profile[:, n]):.3g})"
            for n in chosen
        )
        again, often = (later[inside] > 0).mean(), later[inside].mean()
        head = f"segment {number}: {inside.mean():.0%} of customers, {again:.0%} buy again, {often:.2f} purchases"
        lines.append(f"{head}; {told}")
    return "\n".join(lines)
