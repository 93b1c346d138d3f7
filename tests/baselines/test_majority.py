"""The largest class of the training rows is right as often as it occurs."""

import numpy as np

from dl.baselines.majority import majority
from dl.data.splits import Info, Splits


def test_it_says_the_largest_class_of_training():
    parts = [{"label": np.array(labels)} for labels in ([2, 2, 0], [2, 1], [1, 1, 0, 2])]
    splits = Splits(*parts, Info("x", "x", "", "", "classification", ""))  # type: ignore[call-arg]
    assert majority(splits) == {"validation/accuracy": 0.5, "test/accuracy": 0.25}
