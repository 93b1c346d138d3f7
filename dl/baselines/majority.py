"""The largest class of the training rows, always said: what accuracy is worth where classes are uneven."""

from collections.abc import Callable, Mapping

import numpy as np

from dl.data.splits import Columns, Splits


def on_held(
    splits: Splits, scores: Callable[[Columns, str], Mapping[str, float]]
) -> dict[str, float]:
    """``scores(columns, name)`` of each part that is held out, as ``{"test/accuracy": 0.94}``."""
    return {
        f"{name}/{metric}": value
        for name, part in splits.parts.items()
        if name != "train"
        for metric, value in scores(part, name).items()
    }


def majority(splits: Splits) -> dict[str, float]:
    """Its accuracy on the parts that are held out, such as ``{"test/accuracy": 0.94}``.

    Args:
      splits: a column ``label`` of class numbers, and perhaps ``weight``, how many rows each stands for.
    """
    largest = np.bincount(splits.train["label"], splits.train.get("weight")).argmax()

    def score(part: Columns, name: str) -> dict[str, float]:
        right = part["label"] == largest
        return {"accuracy": float(np.average(right, weights=part.get("weight")))}

    return on_held(splits, score)
