"""What signals of a network stand beside: holding all shares, a coin, yesterday's move, and a linear model."""

from typing import Any

import numpy as np

from dl.baselines.majority import on_held
from dl.data.splits import Columns, Splits
from dl.scores.backtest import back_test, signal_scores

COINS = 200


def always(part: Columns) -> np.ndarray:
    """Buy, whatever comes."""
    return np.ones(len(part["day"]))


def moved(part: Columns) -> np.ndarray:
    """The last move of the share less its mean in training, in its deviations: what goes up goes on."""
    return part["window"][:, -1, 4].astype(np.float64)


def linear_signal(splits: Splits) -> Any:
    """``part -> signal`` of logistic regression on the whole window."""
    from sklearn.linear_model import LogisticRegression

    def flat(part: Columns) -> np.ndarray:
        return part["window"].reshape(len(part["window"]), -1)

    model = LogisticRegression(C=1e-3, max_iter=200)
    model.fit(flat(splits.train), splits.train["label"])
    return lambda part: model.decision_function(flat(part))


def coin(part: Columns, **asked: Any) -> dict[str, float]:
    """The mean of what 200 coins are worth, and the middle 95 % of their returns."""
    random = np.random.default_rng(0)
    columns = part["move"], part["day"], part["share"]
    counted = part["weight"] > 0
    found = []
    for _ in range(COINS):
        signal = random.choice([-1.0, 1.0], len(part["day"]))
        right = np.mean((signal > 0)[counted] == (part["label"] > 0)[counted])
        found.append({"accuracy": right, "mcc": 0.0, **back_test(signal, *columns, **asked)})
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    low, high = np.quantile([one["return"] for one in found], (0.025, 0.975))
    return means | {"return_low": float(low), "return_high": float(high)}


def trading_rivals(splits: Splits, **asked: Any) -> dict[str, dict[str, float]]:
    """Scores and returns of each rival by set, such as ``{"coin": {"test/return": -0.06}}``.

    Args:
      splits: as of :func:`dl.data.markets.cases`; asked: cost and delay of :func:`~dl.scores.backtest.back_test`.
    """

    def judged(signal: Any) -> dict[str, float]:
        def scores(part: Columns, name: str) -> dict[str, float]:
            said = signal(part)
            traded = back_test(said, part["move"], part["day"], part["share"], **asked)
            return {**signal_scores(part, said), **traded}

        return on_held(splits, scores)

    return {
        "buy and hold": judged(always),
        "coin": on_held(splits, lambda part, name: coin(part, **asked)),
        "last move": judged(moved),
        "linear": judged(linear_signal(splits)),
    }
