"""How many points lie in which coarse cell, and a linear model: what a network of clouds is compared with."""

import numpy as np

from dl.baselines.majority import majority, on_held
from dl.data.splits import Columns, Splits


def coarse(points: np.ndarray, side: int = 8) -> np.ndarray:
    """Shares of each cloud's points ``[n, points, 3]`` in cells of a grid from -1 to 1: ``[n, side ** 3]``."""
    place = np.clip(((points + 1) * (side / 2)).astype(int), 0, side - 1)
    cell = (place[..., 0] * side + place[..., 1]) * side + place[..., 2]
    count = np.stack([np.bincount(one, minlength=side**3) for one in cell])
    return np.sqrt(count / points.shape[1])


def cloud_baselines(splits: Splits) -> dict[str, dict[str, float]]:
    """Accuracies of a ``linear`` model on :func:`coarse` cells, and of the ``majority``."""
    from sklearn.linear_model import LogisticRegression

    linear = LogisticRegression(C=10.0, max_iter=300)
    linear.fit(coarse(splits.train["points"]), splits.train["label"])

    def score(part: Columns, name: str) -> dict[str, float]:
        return {"accuracy": float(linear.score(coarse(part["points"]), part["label"]))}

    return {"linear": on_held(splits, score), "majority": majority(splits)}
