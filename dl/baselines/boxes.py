"""The same boxes for every picture: what a detector has to be compared with."""

import numpy as np

from dl.core.errors import need
from dl.data.splits import Splits, known
from dl.scores.detection import average_precision


def usual_boxes(splits: Splits, rows: int = 5000) -> dict[str, float]:
    """The :func:`~dl.scores.detection.average_precision` of the boxes that training pictures usually have, said of
    every picture held out, such as ``{"test/map_50": 0.02}``.

    They are the centres of k-means of each class's boxes, as many as a picture has on average; the score of one
    is the share of the training pictures that have a box of the class where it is (IoU 0.5 and more).

    Args:
      splits: ``boxes [n, objects, 4]`` and ``label [n, objects]``, -1 for none; a part may stream.
      rows: training pictures that are looked at, at most, the first ones.
    """
    from sklearn.cluster import KMeans

    overlap = need("pycocotools.mask", extra="detection", why="average precision").iou
    parts = {name: known(part) for name, part in splits.parts.items()}
    train = {name: parts["train"][name][:rows] for name in ("boxes", "label")}
    found: list[tuple[np.ndarray, float, int]] = []
    for number in range(len(splits.info.classes)):
        picture, place = np.nonzero(train["label"] == number)
        boxes = train["boxes"][picture, place].astype(np.float64)
        if not len(boxes):
            continue
        count = max(1, round(len(boxes) / len(train["label"])))
        model = KMeans(min(count, len(np.unique(boxes, axis=0))), n_init=1, random_state=0)
        centres = model.fit(boxes).cluster_centers_
        there = overlap(_by_sides(centres), _by_sides(boxes), np.zeros(len(boxes))) >= 0.5
        shares = [len(np.unique(picture[hits])) / len(train["label"]) for hits in there]
        found += [(box, share, number) for box, share in zip(centres, shares, strict=True)]
    said = [np.array(values) for values in zip(*found, strict=True)]
    return {
        f"{name}/{metric}": value
        for name, part in parts.items()
        if name != "train"
        for metric, value in average_precision(
            tuple(np.broadcast_to(v, (len(part["label"]), *v.shape)) for v in said),  # type: ignore
            part["boxes"],
            part["label"],
            splits.info.classes,
        ).items()
    }


def _by_sides(boxes: np.ndarray) -> np.ndarray:
    """Left, top, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
