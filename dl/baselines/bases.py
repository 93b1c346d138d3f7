"""Logistic regression on the base at each place: what any network for sequences of bases is compared with."""

import numpy as np

from dl.baselines.majority import on_held
from dl.data.splits import Columns, Splits
from dl.scores.tabular import class_scores


def linear_bases(splits: Splits) -> dict[str, float]:
    """Its scores on the parts held out, such as ``{"test/mcc": .87}``; the penalty that is best on validation.

    Args:
      splits: columns ``bases`` of codes ``[rows, time]`` and ``label``.
    """
    from sklearn.linear_model import LogisticRegression

    def hot(part: Columns) -> np.ndarray:
        return np.eye(5, dtype=np.float32)[part["bases"]].reshape(len(part["label"]), -1)

    found = []
    for strength in (0.01, 0.03, 0.1):
        model = LogisticRegression(C=strength, max_iter=500)
        model.fit(hot(splits.train), splits.train["label"])

        def score(part: Columns, name: str, model=model) -> dict[str, float]:
            return class_scores(part["label"], model.predict_log_proba(hot(part)))

        found.append(on_held(splits, score))
    return max(found, key=lambda scores: scores.get("validation/mcc", 0.0))
