"""One threshold on brightness: what any segmentation has to be compared with."""

import numpy as np

from dl.core.column_checks import same_shape
from dl.core.errors import UserError
from dl.scores.segmentation import binary_iou


def best_threshold(image: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """The baseline any network must beat: class 1 where a pixel is brighter than one threshold.

    Returns the threshold with the highest mean IoU of the two classes on training pictures ``image``
    and ``label`` (alike in shape, -1 where a pixel counts for nothing), and that IoU.

    Raises:
      UserError: the two differ in shape, or no pixel counts.
    """
    image, label = np.asarray(image), np.asarray(label)
    same_shape("image", image, "label", label)
    if label.dtype != bool:  # of bool nothing can be void
        image, label = image[label >= 0], label[label >= 0] > 0
    if not label.size:
        raise UserError(
            "nothing-to-fit",
            "no pixel has a label of 0 or more: there is nothing to choose a threshold by",
        )
    levels = np.quantile(image, np.linspace(0.01, 0.99, 99))
    scores = [np.nanmean(binary_iou(image > level, label)) for level in levels]
    best = int(np.argmax(scores))
    return float(levels[best]), float(scores[best])


def brightness(image: np.ndarray) -> np.ndarray:
    """Pictures ``[..., channels]`` as ``[...]``: their one channel, or the mean of several."""
    return image[..., 0] if image.shape[-1] == 1 else image.mean(-1)
