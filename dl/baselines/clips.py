"""Means and changes of clips, and a linear model: what a network of clips has to be compared with."""

import numpy as np

from dl.baselines.majority import majority, on_held
from dl.data.splits import Columns, Splits


def summaries(part: Columns) -> np.ndarray:
    """Of ``values [n, time, features]`` the mean, spread, first and last of each feature, and how much it moves
    from step to step: ``[n, 5 * features]``."""
    x = np.asarray(part["values"], np.float64)
    moves = np.abs(np.diff(x, axis=1)).mean(1)
    return np.concatenate([x.mean(1), x.std(1), x[:, 0], x[:, -1], moves], 1)


def clip_baselines(splits: Splits) -> dict[str, dict[str, float]]:
    """Accuracies of a ``linear`` model on :func:`summaries`, and of the ``majority``."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    linear.fit(summaries(splits.train), splits.train["label"])

    def score(part: Columns, name: str) -> dict[str, float]:
        return {"accuracy": float(linear.score(summaries(part), part["label"]))}

    return {"linear": on_held(splits, score), "majority": majority(splits)}
