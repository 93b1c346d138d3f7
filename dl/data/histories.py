"""What users took one after the other, as rows of a language model: an item's number is its code + 1."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dl.core.errors import bounded
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.batches.resident import train_batches
from dl.data.splits import Columns, Splits


def histories(splits: Splits, context: int) -> Splits:
    """Ratings as rows of a language model, the items of a user in order of time.

    ``inputs`` and ``targets`` int32 and ``weight`` float32, ``[rows, context]``; ``user`` and ``length`` int32
    ``[rows]``.
    Inputs begin with 0 where all before is seen, and are filled up with it. A training row is a window of a user's
    items; of long histories windows overlap by half, and each item is a target once. A row of another part is one
    of its ratings: the last items that the user had in earlier parts, and the rating's own as the only target.

    Args:
      splits: ``user`` and ``item`` int ``[rows]``, and ``time`` or in order of time.
      context: items that a prediction sees.
    """
    bounded("--context", context, at_least=2, whole=True)
    rows = []
    for user, items in _sequences(splits.train).items():
        tokens = np.concatenate([[0], items + 1])
        done = 0  # targets of windows before
        for start in range(0, max(1, len(items) - context // 2), context // 2 or 1):
            window = tokens[start : start + context + 1]
            weight = np.arange(start, start + len(window) - 1) >= done
            rows.append((user, window[:-1], window[1:], weight))
            done = start + len(window) - 1
            if done >= len(items):
                break
    parts: Any = {"train": _stacked(rows, context)}
    for name, part in list(splits.parts.items())[1:]:
        seen, rows, none = _sequences(splits.before(name)), [], np.zeros(0, np.int32)
        for user, item in zip(part["user"].tolist(), part["item"].tolist(), strict=True):
            inputs = np.concatenate([[0], seen.get(user, none) + 1])[-context:]
            last = np.arange(len(inputs)) == len(inputs) - 1
            rows.append((user, inputs, (item + 1) * last, last))
        parts[name] = _stacked(rows, context)
    return dataclasses.replace(splits, **parts)


def trained_on(rows: Columns, batch_size: int, seed: Any) -> dict[str, Any]:
    """``data`` and ``trim`` of an experiment: shuffled batches of ``batch_size`` rows, or of all where they are
    fewer; of histories those of like lengths together, computed as far as the longest of a batch."""
    size = min(batch_size, len(rows["user"]))
    if "length" not in rows:
        return {"data": train_batches(rows, size, seed)}
    columns = ("inputs", "targets", "weight")
    cut = trim(columns, (32, 64, 112), lambda batch: batch["length"].max())
    return {"data": bucket_batches(rows, "length", size, seed), "trim": cut}


def _sequences(rated: Columns) -> dict[int, np.ndarray]:
    """``{user: items in order}``."""
    place = rated.get("time", np.arange(len(rated["user"])))
    order = np.lexsort((place, rated["user"]))
    users, first = np.unique(rated["user"][order], return_index=True)
    return dict(zip(users.tolist(), np.split(rated["item"][order], first[1:]), strict=True))


def _stacked(rows: Sequence[tuple], context: int) -> Columns:
    """Rows of user, inputs, targets and weight as columns, filled up with 0."""
    columns = {
        "user": np.array([row[0] for row in rows], np.int32),
        "length": np.array([len(row[1]) for row in rows], np.int32),
        "inputs": np.zeros((len(rows), context), np.int32),
        "targets": np.zeros((len(rows), context), np.int32),
        "weight": np.zeros((len(rows), context), np.float32),
    }
    for place, (_, *values) in enumerate(rows):
        for name, value in zip(("inputs", "targets", "weight"), values, strict=True):
            columns[name][place, : len(value)] = value
    return columns
