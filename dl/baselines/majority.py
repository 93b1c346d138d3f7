"""The largest class of the training rows, always said: what accuracy is worth where classes are uneven."""

import numpy as np

from dl.data.splits import Splits


def majority(splits: Splits) -> dict[str, float]:
    """Its accuracy on the parts that are held out, such as ``{"test/accuracy": 0.94}``.

    Args:
      splits: a column ``label`` of class numbers, and perhaps ``weight``, how many rows each stands for.
    """
    largest = np.bincount(splits.train["label"], splits.train.get("weight")).argmax()
    held = {name: part for name, part in splits.parts.items() if name != "train"}
    return {
        f"{name}/accuracy": float(np.average(part["label"] == largest, weights=part.get("weight")))
        for name, part in held.items()
    }
