"""How often customers buy again, by models that know when they bought alone."""

from typing import NamedTuple

import numpy as np

from dl.baselines.majority import on_held
from dl.core.errors import UserError
from dl.data.splits import Columns, Splits
from dl.scores.purchases import purchase_scores


class BGNBD(NamedTuple):
    """The beta-geometric/NBD model (Fader, Hardie & Lee 2005, "Counting your customers the easy way").

    A customer buys at a rate drawn from a gamma distribution (``r``, ``alpha`` in weeks), and after each purchase
    stays away for ever with a chance drawn from a beta distribution (``a``, ``b``).
    """

    r: float
    alpha: float
    a: float
    b: float

    def log_likelihood(self, part: Columns) -> np.ndarray:
        """Of each customer ``[rows]``: ``repeat``, ``recency`` and ``age`` of :mod:`dl.data.customers` (eq. 6)."""
        from scipy.special import betaln, gammaln

        x, recency, age = _columns(part)
        rate = gammaln(self.r + x) - gammaln(self.r) + self.r * np.log(self.alpha)
        stays = betaln(self.a, self.b + x) - betaln(self.a, self.b)
        stays = stays - (self.r + x) * np.log(self.alpha + age)
        again = np.maximum(x, 1)
        left = betaln(self.a + 1, self.b + again - 1) - betaln(self.a, self.b)
        left = left - (self.r + x) * np.log(self.alpha + recency)
        return rate + np.logaddexp(stays, np.where(x > 0, left, -np.inf))

    def expected(self, part: Columns, weeks: float) -> np.ndarray:
        """How many purchases each customer makes in the ``weeks`` that follow ``[rows]`` (eq. 10)."""
        from scipy.special import hyp2f1

        x, recency, age = _columns(part)
        r, alpha, a, b = self
        ahead = alpha + age + weeks
        series = hyp2f1(r + x, b + x, a + b + x - 1, weeks / ahead)
        most = (a + b + x - 1) / (a - 1) * (1 - ((alpha + age) / ahead) ** (r + x) * series)
        gone = a / (b + np.maximum(x, 1) - 1) * ((alpha + age) / (alpha + recency)) ** (r + x)
        return most / (1 + np.where(x > 0, gone, 0))


def _columns(part: Columns) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(part[name], np.float64) for name in ("repeat", "recency", "age"))


def fit_bgnbd(part: Columns) -> BGNBD:
    """The model of the highest likelihood, which looks at no later purchase.

    Raises:
      UserError: nobody bought twice, so that there is no rate to be found.
    """
    from scipy.optimize import minimize

    if not part["repeat"].any():
        raise UserError(
            "nothing-to-fit",
            "no customer bought on two days before the cut: give a later one, or more of them",
        )

    def loss(log: np.ndarray) -> float:
        return -float(BGNBD(*np.exp(log)).log_likelihood(part).mean())

    best = minimize(loss, np.zeros(4), method="L-BFGS-B", bounds=[(-7, 7)] * 4)
    return BGNBD(*np.exp(best.x).tolist())


def purchase_rivals(splits: Splits, expected: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Scores by set of what a model ``expected`` of each part, of going on as before, and of the mean for all."""
    weeks, mean = splits.info.details["weeks"], float(splits.train["later"].mean())

    def before(part: Columns, name: str) -> np.ndarray:
        return part["profile"][:, 0] / np.maximum(part["age"], 1) * weeks

    ways = {
        "bg/nbd": lambda part, name: expected[name],
        "as before": before,
        "mean": lambda part, name: np.full(len(part["later"]), mean),
    }
    return {
        rival: on_held(splits, lambda part, name, way=way: purchase_scores(part, way(part, name)))  # type: ignore[misc]
        for rival, way in ways.items()
    }
