"""The largest class of the training rows, always said: what accuracy is worth where classes are uneven."""

import numpy as np

from dl.data.splits import Splits


def majority(splits: Splits) -> dict[str, float]:
    """Its accuracy on the parts that are held out, such as ``{"test/accuracy": 0.94}``.

    Args:
      splits: a column ``label`` of class numbers.
    """
    largest = np.bincount(splits.train["label"]).argmax()
    held = {name: part["label"] for name, part in splits.parts.items() if name != "train"}
    return {f"{name}/accuracy": float(np.mean(label == largest)) for name, label in held.items()}
