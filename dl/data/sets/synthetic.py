"""Sets that are drawn and not measured."""

import numpy as np


def adding_problem(count: int, length: int, seed: int) -> dict[str, np.ndarray]:
    """Sums of two marked numbers of a sequence (Hochreiter & Schmidhuber 1997, "Long short-term memory").

    ``values [count, length]`` uniform in 0..1; ``marks [count, 2]``, a place in either half; ``label [count]``,
    the sum of the two values there.
    """
    draw = np.random.default_rng(seed)
    values = draw.random((count, length), np.float32)
    half = length // 2
    marks = draw.integers([0, half], [half, length], (count, 2)).astype(np.int32)
    return {"values": values, "marks": marks, "label": np.take_along_axis(values, marks, 1).sum(1)}
