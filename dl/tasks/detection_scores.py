"""Average precision by COCO's own evaluation."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np

from dl.core.errors import UserError


def average_precision(
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
    boxes: np.ndarray,
    label: np.ndarray,
    classes: Sequence[str],
) -> dict[str, float]:
    """``map_50``, mean average precision at IoU 0.5; ``map``, its mean over IoU 0.50, 0.55, ... 0.95; and
    ``ap_50_NAME`` of each class (NaN where the truth has none of it).

    Args:
      found: boxes ``[pictures, n, 4]``, scores ``[pictures, n]`` and labels ``[pictures, n]``, -1 for
        none, of the whole set; at most 100 a picture count.
      boxes: the true ones, ``[pictures, objects, 4]``, and label ``[pictures, objects]``, -1 for none.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise UserError(
            "average precision needs pycocotools: pip install 'dl[detection]'"
        ) from None

    def rows(boxes, label, **columns):
        picture, place = np.nonzero(np.asarray(label) >= 0)
        corners = np.asarray(boxes, np.float64)[picture, place]
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
