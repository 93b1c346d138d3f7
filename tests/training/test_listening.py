"""What a recogniser hears, as strings."""

import numpy as np

from dl.training.listening import Listening


def test_mistakes_are_marked():
    shown = {"label": np.array([[0, 1], [1, -1]])}
    views = Listening(shown, {"tokens": ("yes", "no"), "between": " ", "rate": 8000})
    best = np.eye(3)[[[1, 0, 2], [2, 1, 0]]]  # class 0 is the blank: "yes no" and "no yes"
    listened = lambda columns: (best, np.array([3, 3]))  # noqa: E731
    assert views.strings(listened, shown, 4) == [["yes no", "no"], ["yes no", "no yes"]]
    assert views(listened)["strings"].splitlines()[1:] == [
        *("  yes no", "  yes no"),
        *("* no", "  no yes"),
    ]
