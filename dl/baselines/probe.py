"""A linear classifier on features that were not learned for it: what is in them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dl.data.splits import Columns, some_rows


def linear_probe(
    features: Callable[[Any], np.ndarray], train: Columns, rows: int = 10_000
) -> Callable[[Columns, str], dict[str, float]]:
    """``(columns, name) -> {"probe": accuracy}`` of a logistic regression on standardised features, fitted to
    training rows.

    Args:
      features: ``({"image": [n, ...]}) -> [n, features]``, such as a :class:`dl.Predictor`.
      train: with ``image`` and ``label``; rows: of them that it is fitted to, at most, drawn by seed.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    some = some_rows(train, rows)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    linear.fit(features(some), some["label"])
    return lambda columns, name: {"probe": float(linear.score(features(columns), columns["label"]))}
