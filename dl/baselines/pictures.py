"""Pixels and a linear model, or the most frequent class: what a network of pictures has to be compared with."""

import numpy as np

from dl.baselines.threshold import best_threshold, brightness
from dl.data.splits import Columns, Splits, pieces, some_rows

Figures = dict[str, dict[str, float]]


def picture_baselines(splits: Splits, features: int = 1000, rows: int = 5000) -> Figures:
    """Accuracies of ``linear`` (logistic regression on pixels) and of ``majority`` (the largest class).

    Args:
      splits: ``image [n, height, width, channels]`` and ``label [n]``; a part may stream.
      features: pixels times channels that pictures are averaged down to, at most.
      rows: training pictures that both are fitted to, at most, drawn by seed.

    Returns:
      ``{"linear": {"validation/accuracy": ..., "test/accuracy": ...}, "majority": ...}``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    some = some_rows(splits.train, rows)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    linear.fit(small_pixels(some["image"], features), some["label"])
    majority = np.bincount(some["label"]).argmax()
    found: Figures = {"linear": {}, "majority": {}}
    for name in ("validation", "test"):
        right = [
            (
                linear.predict(small_pixels(piece["image"], features)) == piece["label"],
                piece["label"] == majority,
            )
            for piece in pieces(splits.parts.get(name, {}))
        ]
        for baseline, hits in zip(found, zip(*right, strict=True), strict=False):
            found[baseline][f"{name}/accuracy"] = float(np.concatenate(hits).mean())
    return found


def small_pixels(image: np.ndarray, features: int = 1000) -> np.ndarray:
    """Pictures ``[n, height, width, channels]`` as float32 ``[n, at most features]``: means of equal squares,
    what does not fill the last ones cut off."""
    count, height, width, channels = image.shape
    side = 1
    while (height // side) * (width // side) * channels > features and side < min(height, width):
        side += 1
    tall, wide = height // side, width // side
    squares = image[:, : tall * side, : wide * side].reshape(
        count, tall, side, wide, side, channels
    )
    return squares.mean((2, 4), dtype=np.float32).reshape(count, -1)


def pixel_vectors(columns: Columns) -> np.ndarray:
    """Pictures as vectors that a network's are compared with: their pixels, at most 10,000, less their mean."""
    x = small_pixels(columns["image"], 10_000)
    return x - x.mean(1, keepdims=True)


def mask_baselines(splits: Splits, rows: int = 200) -> Figures:
    """Accuracy of pixels, both mean IoUs and IoU of each class of ``majority`` (the most frequent class
    everywhere) and, of two classes, ``threshold`` (class 1 where a pixel is brighter than fits best), both fitted
    to ``rows`` of train at most.

    Args:
      splits: ``image [n, height, width, channels]`` and ``segments [n, height, width]``, -1 for what counts for
        nothing; a part may stream.
    """
    some = some_rows(splits.train, rows)
    label = some["segments"]
    most = int(np.bincount(label[label >= 0]).argmax())
    guesses = {"majority": lambda image: np.full(image.shape[:3], most)}
    if len(splits.info.classes) == 2:
        level = best_threshold(brightness(some["image"]), label)[0]
        guesses["threshold"] = lambda image: (brightness(image) > level).astype(int)
    found: Figures = {name: {} for name in guesses}
    for part in ("validation", "test"):
        for name, guess in guesses.items():
            scores = [
                _overlaps(said, true, len(splits.info.classes))
                for piece in pieces(splits.parts.get(part, {}), 50)
                for said, true in zip(guess(piece["image"]), piece["segments"], strict=True)
            ]
            if scores:
                both, either, true = np.array(scores).sum(0)  # [classes], over all pictures
                found[name] |= {
                    f"{part}/accuracy": float(both.sum() / true.sum()),
                    f"{part}/mean_iou": float(np.nanmean([_mean_iou(*each) for each in scores])),
                }
                ratios = zip(both, either, strict=True)
                ious = {f"{part}/iou_{c}": float(b / e) for c, (b, e) in enumerate(ratios) if e}
                found[name] |= ious | {f"{part}/class_iou": float(np.mean([*ious.values()]))}
    return found


def _overlaps(said: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Of one picture's pixels that count: how many are said and true, said or true, and true of each class,
    ``[3, classes]``."""
    said, true = said[true >= 0], true[true >= 0]
    found = (np.bincount(some, minlength=classes) for some in (said[said == true], said, true))
    both, of_said, of_true = found
    return np.stack([both, of_said + of_true - both, of_true])


def _mean_iou(both: np.ndarray, either: np.ndarray, true: np.ndarray) -> float:
    """Over the classes that are there or said, as :func:`dl.tasks.segmentation.segmentation` has it."""
    there = either > 0
    return float((both[there] / either[there]).mean()) if there.any() else np.nan
