"""Average precision by COCO's own evaluation."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np

from dl.core.column_checks import same_shape, within
from dl.core.errors import UserError, need


def average_precision(
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
    boxes: np.ndarray,
    label: np.ndarray,
    classes: Sequence[str],
) -> dict[str, float]:
    """``map_50``, mean average precision at IoU 0.5; ``map``, its mean over IoU 0.50, 0.55, ... 0.95; and
    ``ap_50_NAME`` of each class, NaN where the truth has none of it. The means are over the classes that
    the truth has, NaN where it has none.

    Args:
      found: boxes ``[pictures, n, 4]`` (left, top, right, bottom), scores ``[pictures, n]`` and labels
        ``[pictures, n]``, -1 for none, of the whole set; at most the 100 surest a picture and class
        count, of equal scores the first. One with a box or a score that is not finite, or with a box
        turned inside out, hits nothing: it counts as a false alarm, the least sure one where its score
        is NaN.
      boxes: the true ones, ``[pictures, objects, 4]``, and label ``[pictures, objects]``, -1 for none.

    Raises:
      UserError: shapes that do not belong together, a label beyond ``classes``, a true box that is not
        finite or is turned inside out, or pycocotools is not installed.
    """
    found = np.asarray(found[0], np.float64), np.asarray(found[1], np.float64), np.asarray(found[2])
    boxes, label = np.asarray(boxes, np.float64), np.asarray(label)
    _check(found, boxes, label, len(classes))
    broken = ~(np.isfinite(found[0]).all(-1) & np.isfinite(found[1])) | _inside_out(found[0])
    found = (
        np.where(broken[..., None], 0.0, found[0]),  # an empty box overlaps nothing
        np.where(np.isnan(found[1]), -np.inf, found[1]),
        found[2],
    )
    COCO = need("pycocotools.coco", extra="detection", why="average precision").COCO
    COCOeval = need("pycocotools.cocoeval", extra="detection", why="average precision").COCOeval

    def rows(boxes, label, **columns):
        picture, place = np.nonzero(label >= 0)
        corners = boxes[picture, place]
        sides = corners[:, 2:] - corners[:, :2]
        for number, (row, column) in enumerate(zip(picture, place, strict=True)):
            yield {
                "id": number + 1,
                "image_id": int(row) + 1,
                "category_id": int(label[row, column]) + 1,
                "bbox": [*corners[number, :2], *sides[number]],
                "area": float(sides[number].prod()),
                "iscrowd": 0,
                **{name: float(value[row, column]) for name, value in columns.items()},
            }

    def coco(annotations):
        data = COCO()
        data.dataset = {
            "info": {},
            "images": [{"id": row + 1} for row in range(len(label))],
            "categories": [{"id": c + 1, "name": name} for c, name in enumerate(classes)],
            "annotations": list(annotations),
        }
        data.createIndex()
        return data

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth = coco(rows(boxes, label))
        said = coco(rows(found[0], found[2], score=found[1]))
        evaluation = COCOeval(truth, said, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # precision[IoU, recall, class, size of object (0: any), detections a picture (2: 100)], -1: no truth
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    precision = np.where(precision < 0, np.nan, precision)
    present = ~np.isnan(precision[0, 0])
    at_half = precision[0].mean(0)
    return {
        "map_50": float(at_half[present].mean()) if present.any() else float("nan"),
        "map": float(precision[:, :, present].mean()) if present.any() else float("nan"),
        **{f"ap_50_{name}": float(at_half[c]) for c, name in enumerate(classes)},
    }


def _check(found, boxes, label, count: int) -> None:
    """Raise UserError where predictions, truth and the number of classes do not belong together."""
    for who, corners, numbers in (("found", found[0], found[2]), ("true", boxes, label)):
        if numbers.ndim != 2 or corners.shape != (*numbers.shape, 4):
            raise UserError(
                "boxes-shape",
                f"the {who} boxes have shape {list(corners.shape)} and their labels "
                f"{list(numbers.shape)}: give [pictures, n, 4] and [pictures, n]",
            )
        within(f"{who} label", numbers, count, lowest=-1)
    same_shape("the found scores", found[1], "their labels", found[2])
    if len(found[2]) != len(label):
        raise UserError(
            "counts-differ",
            f"predictions are of {len(found[2])} pictures, the truth of {len(label)}: give both for the "
            "same pictures, in one order",
        )
    odd = (label >= 0) & (~np.isfinite(boxes).all(-1) | _inside_out(boxes))
    if odd.any():
        picture, place = (int(found[0]) for found in np.nonzero(odd))
        raise UserError(
            "box-corners",
            f"a true box of picture {picture} (from 0) is {boxes[picture, place].tolist()}: give finite "
            "left, top, right, bottom with left <= right and top <= bottom",
        )


def _inside_out(boxes: np.ndarray) -> np.ndarray:
    return np.any(boxes[..., 2:] < boxes[..., :2], axis=-1)
