"""What a look at the rows of a data set shows: repeats within and between parts, columns that say nothing,
columns that say too much."""

import hashlib
import itertools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dl.data.splits import Columns

# What is said of a row, and not part of it.
LABELS = ("label", "value", "index", "number", "length", "time")
LEAK = 0.9  # of the errors of a guess without columns, the share that one column alone takes away
BINS = 64


class Repeats(NamedTuple):
    """Rows that are there before, in the order train, validation, test.

    Attributes:
      within: ``{part: rows}``, of those in the same part; between: ``{(earlier, later): rows}``, rows of the
        later part that the earlier one has too.
      contradicting: rows whose label is another than the same row's before.
      examples: a few pairs of ``(part, row)``.
    """

    within: dict[str, int]
    between: dict[tuple[str, str], int]
    contradicting: int
    examples: list[tuple[tuple[str, int], tuple[str, int]]]


Keys = dict[str, np.ndarray]  # of each part, ``[rows]``: equal for rows that count as the same


def repeats(parts: Mapping[str, Columns], keys: Keys) -> Repeats:
    """Rows whose keys are equal to an earlier one's."""
    first: dict[Any, dict[str, tuple[int, Any]]] = {}
    within = dict.fromkeys(parts, 0)
    between = dict.fromkeys(itertools.combinations(parts, 2), 0)
    contradicting = 0
    examples: list[tuple[tuple[str, int], tuple[str, int]]] = []
    for part, columns in parts.items():
        label = columns.get("label")
        plain = label if label is not None and label.ndim == 1 else None
        for row, key in enumerate(keys[part].tolist()):
            found = first.setdefault(key, {})
            for earlier, (before, said) in found.items():
                if earlier == part:
                    within[part] += 1
                else:
                    between[earlier, part] += 1
                if plain is not None and said != plain[row]:
                    contradicting += 1
                if sum((a, b) == (earlier, part) for (a, _), (b, _) in examples[:40]) < 4:
                    examples.append(((earlier, before), (part, row)))
            found.setdefault(part, (row, None if plain is None else plain[row]))
    return Repeats(within, between, contradicting, examples)


def exact_keys(parts: Mapping[str, Columns]) -> Keys:
    """A digest of every row without what is said of it (:data:`LABELS`)."""
    return {
        part: _digests([values for name, values in columns.items() if name not in LABELS])
        for part, columns in parts.items()
    }


def near_keys(parts: Mapping[str, Columns]) -> Keys:
    """As :func:`exact_keys`, equal for rows that look alike too: pictures that differ by a twentieth of
    their contrast on average at 12 x 12 pixels, texts of the same words whatever their case and marks,
    recordings of the same loudness over time, numbers of the same three digits that differ by less than a
    thousandth of their column's span."""
    alike: Keys = {}
    if parts and all("image" in columns for columns in parts.values()):
        small = [_in_deviations(shrunk(columns["image"], 12)) for columns in parts.values()]
        ends = np.cumsum([len(piece) for piece in small])[:-1]
        groups = np.split(_alike(np.concatenate(small)), ends)
        alike = dict(zip(parts, groups, strict=True))
    return {
        part: _digests(
            [_coarse(part, columns, name, alike, parts) for name in columns if name not in LABELS]
        )
        for part, columns in parts.items()
    }


def _coarse(
    part: str, columns: Columns, name: str, alike: Keys, parts: Mapping[str, Columns]
) -> np.ndarray:
    values = columns[name]
    if name == "image":
        return alike[part]
    if name == "waveform":
        return _loudness(values, columns.get("length"))
    if values.dtype.kind in "UOT":
        words = (" ".join(re.findall(r"\w+", str(text).lower())) for text in values)
        return np.array(list(words), object)
    if values.dtype.kind != "f" or not len(values):
        return values
    return _three_digits(values, [each[name] for each in parts.values()])


def _in_deviations(grey: np.ndarray) -> np.ndarray:
    flat = grey.reshape(len(grey), -1)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.maximum(flat.std(1, keepdims=True), 1.0)


def _alike(vectors: np.ndarray, tolerance: float = 0.05) -> np.ndarray:
    """The number of the first row that each of ``[rows, features]`` is like, within a mean difference.

    Rows are looked up in a grid over their first principal axes, and in the same one shifted by half a cell,
    so that neighbours rarely lie in different cells of both.
    """
    centred = vectors - vectors.mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, -6:]
    place = centred @ axes / (6 * tolerance * np.sqrt(vectors.shape[1]))
    first = np.arange(len(vectors))
    for shift in (0.0, 0.5):
        cells: dict[tuple[int, ...], list[int]] = {}
        for row, cell in enumerate(map(tuple, np.floor(place + shift).astype(int).tolist())):
            known = cells.setdefault(cell, [])
            if known:
                apart = np.abs(vectors[known] - vectors[row]).mean(1)
                nearest = int(apart.argmin())
                if apart[nearest] <= tolerance:
                    first[row] = min(first[row], first[known[nearest]])
                    continue
            if len(known) < 50:
                known.append(row)
    return first


def _digests(pieces: list[np.ndarray]) -> np.ndarray:
    rows = []
    for values in zip(*pieces, strict=True):
        digest = hashlib.blake2b(digest_size=8)
        for value in values:
            whole = isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "UOT"
            digest.update(value.tobytes() if whole else str(value).encode() + b"\0")
        rows.append(digest.digest())
    return np.array(rows, object)


def shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """Pictures ``[n, height, width, channels]`` as grey means, ``[n, side, side]`` float32."""
    grey = images.mean(-1, dtype=np.float32)
    for axis in (1, 2):
        size = grey.shape[axis]
        edges = np.linspace(0, size, side + 1)[:-1].astype(int)
        ends = np.maximum(edges + 1, np.append(edges[1:], size))
        grey = np.add.reduceat(grey, edges, axis) / np.expand_dims(ends - edges, [0, 3 - axis])
    return grey


def _loudness(waveform: np.ndarray, length: np.ndarray | None) -> np.ndarray:
    """Of 64 pieces of each recording, in twentieths of the loudest."""
    power = np.zeros((len(waveform), 64))
    for row, samples in enumerate(waveform):
        sounding = samples[: None if length is None else length[row]].astype(np.float32)
        starts = np.linspace(0, len(sounding), 65).astype(int)[:-1]
        power[row] = np.sqrt(
            np.add.reduceat(np.square(sounding), starts) / max(1, len(sounding) / 64)
        )
    return np.round(20 * power / np.maximum(power.max(1, keepdims=True), 1)).astype(np.int8)


def _three_digits(values: np.ndarray, whole: list[np.ndarray]) -> np.ndarray:
    """Equal for numbers that are alike, ``[rows, 2, ...]``; ``whole`` are all rows, by part."""
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (2 - np.floor(np.log10(np.abs(values, dtype=np.float64))))
        rounded = np.round(values * scale) / scale
        every = np.concatenate(whole).astype(np.float64)
        low, high = np.fmin.reduce(every, 0), np.fmax.reduce(every, 0)
        place = np.floor(1000 * (values - low) / (high - low))
    return np.stack([np.where(np.isfinite(x), x, values) for x in (rounded, place)], 1)


def constant(values: np.ndarray) -> bool:
    """Whether a column ``[rows, ...]`` has one value, missing ones (NaN) left out."""
    if values.dtype.kind == "f":
        values = values[~np.isnan(values)]
    return len(values) == 0 or bool((values == values[0]).all())


def alone(
    train: np.ndarray, label: np.ndarray, other: np.ndarray, truth: np.ndarray, classes: int
) -> float:
    """How much one column predicts by itself: the share of the errors of the best guess without it (for
    numbers, of their variance) that it takes away on other rows; 1 says all, 0 or less nothing.

    Args:
      train: the column's training rows ``[n]``, numbers (NaN where missing) or codes; label: what to predict.
      other, truth: the same of other rows; classes: how many, 0 for numbers.
    """
    place, reference = _binned(train, other)
    count = int(max(place.max(), reference.max())) + 1
    if classes:
        votes = np.zeros((count, classes))
        np.add.at(votes, (place, label), 1)
        common = np.bincount(label, minlength=classes).argmax()
        guess = np.where(votes.sum(1) > 0, votes.argmax(1), common)
        base = (truth != common).mean()
        return float(1 - (truth != guess[reference]).mean() / base) if base else 0.0
    size = np.bincount(place, minlength=count)
    mean = np.bincount(place, label, minlength=count) / np.maximum(size, 1)
    mean = np.where(size > 0, mean, label.mean())
    base = np.square(truth - label.mean()).mean()
    return float(1 - np.square(truth - mean[reference]).mean() / base) if base else 0.0


def _binned(train: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bin of each row: codes as they are, numbers by quantiles, missing ones in a bin of their own."""
    if train.dtype.kind in "iu":
        return train, other
    known = train[~np.isnan(train)]
    edges = np.zeros(0)
    if len(known):
        edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    return tuple(  # type: ignore
        np.where(np.isnan(x), len(edges) + 1, np.searchsorted(edges, x, side="left"))
        for x in (train, other)
    )
