"""What a network that inspects parts is compared with: good parts remembered patch by patch, pixels, simple
sums."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from dl.baselines.majority import on_held
from dl.baselines.pictures import pixel_vectors
from dl.core.errors import UserError, bounded
from dl.data.splits import Columns, Splits, shuffled, some_rows
from dl.scores.inspection import balanced_accuracy
from dl.scores.tabular import auc


class PatchMemory:
    """Patches of good parts; another patch is as odd as it is far from the nearest of them (Roth et al. 2022,
    "Towards total recall in industrial anomaly detection"; here over whitened pixels, not a network's features).

    Attributes:
      bank: ``[patches, numbers]``, the patches that are remembered.
    """

    def __init__(
        self, good: Columns, side: int = 8, numbers: int = 32, memory: int = 4000, stride: int = 2
    ):
        """Remember the patches of ``good`` parts: ``image [n, height, width, channels]``, and ``segments [n,
        height, width]``, -1 where a pixel counts for nothing.

        Args:
          side: of a patch, in pixels of pictures at half size; stride: from one to the next.
          numbers: principal components that a patch is told by, each of unit variance.
          memory: patches remembered at most, drawn by seed.

        Raises:
          UserError: no patch lies whole on the pixels that count.
        """
        for what, value in (("side", side), ("numbers", numbers), ("memory", memory)):
            bounded(what, value, at_least=1, whole=True)
        self.side, self.stride = side, stride
        patches = np.concatenate([self._patches(good, row)[0] for row in range(len(good["image"]))])
        if not len(patches):
            raise UserError(
                "nothing-to-fit",
                f"no patch of {side} x {side} pixels at half size lies on a good part",
            )
        patches = patches[shuffled(len(patches), 0)[: max(memory, 20_000)]]
        self.centre = patches.mean(0)
        _, size, axes = np.linalg.svd(patches - self.centre, full_matrices=False)
        kept = min(numbers, int((size > 1e-5 * size[0]).sum()) or 1)
        deviation = np.maximum(size[:kept] / np.sqrt(len(patches)), 1e-6)
        self.axes = axes[:kept].T / deviation
        self.bank = self._told(patches[:memory])

    def __call__(self, columns: Columns) -> np.ndarray:
        """How odd the oddest patch of each picture is, float64 ``[n]``; 0 where no patch is whole."""
        return np.array([odd.max(initial=0.0) for odd, _ in self._odd(columns)])

    def maps(self, columns: Columns) -> np.ndarray:
        """How odd each pixel's patches are at most, float32 ``[n, height, width]``."""
        found = np.zeros(columns["image"].shape[:3], np.float32)
        reach = 2 * self.side
        for row, (odd, corners) in enumerate(self._odd(columns)):
            for value, (top, left) in zip(odd, 2 * corners, strict=True):
                part = found[row, top : top + reach, left : left + reach]
                np.maximum(part, value, out=part)
        return found

    def _odd(self, columns: Columns) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        length = np.square(self.bank).sum(1)
        for row in range(len(columns["image"])):
            patches, corners = self._patches(columns, row)
            told = self._told(patches)
            apart = (
                (length - 2 * told @ self.bank.T).min(1, initial=np.inf)
                if len(told)
                else np.zeros(0)
            )
            yield np.sqrt(np.maximum(apart + np.square(told).sum(1), 0.0)), corners

    def _told(self, patches: np.ndarray) -> np.ndarray:
        return (patches - self.centre) @ self.axes

    def _patches(self, columns: Columns, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Patches at half size, all of whose pixels count, ``[patches, side * side * channels]``, and their
        corners ``[patches, 2]``."""
        image, segments = columns["image"][row], columns["segments"][row]
        tall, wide = (length // 2 for length in segments.shape)
        pairs = (
            image[: 2 * tall, : 2 * wide]
            .reshape(tall, 2, wide, 2, -1)
            .mean((1, 3), dtype=np.float32)
        )
        real = segments[: 2 * tall, : 2 * wide].reshape(tall, 2, wide, 2).min((1, 3)) >= 0
        numbers = self.side**2 * image.shape[-1]
        if min(tall, wide) < self.side:
            return np.zeros((0, numbers), np.float32), np.zeros((0, 2), int)
        window = (self.side, self.side)
        view = np.lib.stride_tricks.sliding_window_view
        whole = view(real, window)[:: self.stride, :: self.stride].all((2, 3))
        places = np.argwhere(whole)
        patches = view(pairs, window, (0, 1))[:: self.stride, :: self.stride][whole]
        return patches.reshape(len(places), numbers), places * self.stride


def simple_features(columns: Columns) -> np.ndarray:
    """Of each picture's pixels that count, and of the differences of neighbours among them, the mean, deviation
    and quantiles; and the sides and the share of the part: float64 ``[n, 24]``."""
    found = []
    for image, segments in zip(columns["image"], columns["segments"], strict=True):
        grey, real = image.mean(-1, dtype=np.float64), segments >= 0
        row = [np.sqrt(real.any(1).sum()), np.sqrt(real.any(0).sum())]
        across = np.abs(np.diff(grey))[real[:, 1:] & real[:, :-1]]
        down = np.abs(np.diff(grey, axis=0))[real[1:] & real[:-1]]
        for values in (grey[real], across, down):
            values = values if values.size else np.zeros(1)
            quantiles = np.quantile(values, (0.01, 0.1, 0.5, 0.9, 0.99))
            row += [values.mean(), values.std(), *quantiles]
        found.append([*row, float(real.mean())])
    return np.array(found)


def inspection_baselines(splits: Splits, good_alone: bool = False) -> dict[str, dict[str, float]]:
    """``auc`` of good or not, on the parts that are held out, by what is simple.

    Where defects are learned from, ``linear`` (balanced logistic regression on :func:`simple_features`) and
    ``nearest`` (the five nearest pictures of train, by pixels), both also with ``balanced_accuracy`` of several
    classes; of good parts alone ``memory`` (:class:`PatchMemory` of 200 of them) and ``nearest`` (how far the
    nearest good one is).

    Args:
      splits: ``image``, ``segments`` and ``label [n]``, 0 for good.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, label = splits.train, splits.train["label"]
    found: dict[str, dict[str, float]] = {}
    if good_alone:
        near = NearestNeighbors(n_neighbors=1).fit(pixel_vectors(train))

        def nearest(part: Columns) -> np.ndarray:
            return near.kneighbors(pixel_vectors(part))[0][:, 0]

        memory = PatchMemory(some_rows(train))
        for name, odd in (("memory", memory), ("nearest", nearest)):

            def area(part: Columns, _: str, odd: Any = odd) -> dict[str, float]:
                return {"auc": auc(part["label"] > 0, odd(part))}

            found[name] = on_held(splits, area)
        return found
    linear = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", C=0.3, max_iter=1000)
    )
    models = {
        "linear": (linear, simple_features),
        "nearest": (KNeighborsClassifier(5), pixel_vectors),
    }
    for name, (model, features) in models.items():
        model.fit(features(train), label)

        def scores(part: Columns, _: str, model: Any = model, features: Any = features):
            x = features(part)
            figures = {"auc": auc(part["label"] > 0, 1 - model.predict_proba(x)[:, 0])}
            if len(splits.info.classes) > 2:
                figures["balanced_accuracy"] = balanced_accuracy(part["label"], model.predict(x))
            return figures

        found[name] = on_held(splits, scores)
    return found
