"""Windows of sequences that live on the device whole: a batch is a gather by starting place.

A set of windows keeps each value once, however much the windows overlap.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import struct

from dl.core.errors import UserError, bounded
from dl.core.task import Batch
from dl.data.batches.resident import (
    Arrays,
    check_batch_size,
    digest_arrays,
    eval_rows,
    keep_mask_free,
    stream_rows,
    stream_seed,
)
from dl.data.readers.levels import as_float32, complete, keep_digits, kept_levels, levels_of
from dl.data.readers.series_tables import check_times
from dl.data.splits import Columns, Splits


class Slice(NamedTuple):
    """One column of a batch: ``length`` entries of ``column``, from ``offset`` after the start."""

    name: str
    column: str
    offset: int
    length: int


def _gather(windows, rows) -> Batch:
    starts = rows.astype(jnp.int32) if windows.starts is None else windows.starts[rows]

    def cut(field: Slice):
        places = starts[:, None] + (field.offset + jnp.arange(field.length, dtype=jnp.int32))
        return windows.arrays[field.column][places]

    batch = {field.name: cut(field) for field in windows.fields}
    return {**batch, **{name: value[rows] for name, value in windows.labels.items()}}


@struct.dataclass
class _Windows:
    """What training and evaluation windows share.

    Attributes:
      arrays: sequences ``[positions, ...]``.
      labels: one value a window, ``[windows, ...]``.
      starts: first position of each window, int32 ``[windows]``; None where window i starts at i.
      count: number of windows.
      levels: what was taken off each variable, or each series of a panel; see ``level``.
    """

    arrays: Arrays
    labels: Arrays
    starts: Any
    batch_size: int = struct.field(pytree_node=False)
    count: int = struct.field(pytree_node=False)
    fields: tuple[Slice, ...] = struct.field(pytree_node=False)
    levels: tuple[float, ...] = struct.field(pytree_node=False, default=())

    @property
    def size(self) -> int:
        return self.count

    @property
    def columns(self) -> Arrays:
        """All that the columns of a batch are taken from."""
        return {**{field.name: self.arrays[field.column] for field in self.fields}, **self.labels}

    def digest(self) -> str:
        """SHA-256 (hex) of the sequences, the starts and the labels."""
        named = {**self.arrays, **{f"label/{k}": v for k, v in self.labels.items()}}
        if self.starts is not None:
            named["starts"] = self.starts
        if any(self.levels):
            named["levels"] = np.array(self.levels)
        return digest_arrays(named)

    @property
    def level(self) -> np.ndarray:
        """What was taken off the values before they became float32, to be added to ``past``, ``future``
        and forecasts of all windows in order: float64 ``[1, 1, variables]``, ``[windows, 1]`` for a
        panel. 0 for every variable or series that float32 holds as it is."""
        levels = np.array(self.levels or 0.0)
        if "series" in self.labels and levels.ndim:
            return levels[np.asarray(self.labels["series"])][:, None]
        return levels[None, None] if levels.ndim else levels


@struct.dataclass
class TrainWindows(_Windows):
    """Shuffled windows, each once an epoch; ``batches[step]`` holds every field ``[batch, length, ...]``
    and every label ``[batch, ...]``."""

    seed: Any = 0

    def indices(self, step):
        return stream_rows(step, self.count, self.batch_size, self.seed)

    def __getitem__(self, step) -> Batch:
        return _gather(self, self.indices(step))

    def ordered(self, batch_size: int) -> "EvalWindows":
        """The same windows in order, each once."""
        options = {"starts": self.starts, "labels": self.labels, "levels": self.levels}
        return eval_windows(self.arrays, self.fields, batch_size, **options)


@struct.dataclass
class EvalWindows(_Windows):
    """All windows in order, for evaluation; the last batch is padded and masked."""

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def indices(self, step):
        return eval_rows(step, self.count, self.batch_size)[0]

    def __getitem__(self, index) -> Batch:
        rows, mask = eval_rows(index, self.count, self.batch_size)
        return {**_gather(self, rows), "mask": mask}


def _check(arrays: Arrays, labels: Arrays, starts, fields) -> tuple[Any, int]:
    """The starts as int32 (or None) and the number of windows; raises where one would not fit."""
    reach = {field: field.offset + field.length for field in fields}
    room = min(len(arrays[field.column]) - reach[field] for field in fields) + 1
    if starts is None:
        count = room
    else:
        starts = np.asarray(starts, np.int32)
        count = len(starts)
        first = min(field.offset for field in fields)
        if count and (starts.min() + first < 0 or starts.max() >= room):
            raise UserError("window-beyond", "a window reaches beyond the sequence it is cut from")
    if count < 1:
        raise UserError("no-window", f"no window fits: the sequence is {1 - room} too short")
    if any(len(value) != count for value in labels.values()):
        raise UserError("column-lengths", f"{count} windows need {count} labels")
    return starts, count


def train_windows(
    arrays: Arrays,
    fields: tuple[Slice, ...],
    batch_size: int,
    seed: Any = 0,
    *,
    starts: Any = None,
    labels: Arrays | None = None,
    levels: tuple[float, ...] = (),
) -> TrainWindows:
    """Endless shuffled windows of in-memory sequences.

    Raises:
      UserError: a window does not fit, or float32 could not tell an array's values apart.
    """
    labels = labels or {}
    keep_digits(arrays)
    starts, count = _check(arrays, labels, starts, fields)
    check_batch_size(batch_size, count, "windows")
    shuffle = stream_seed(seed)
    return TrainWindows(arrays, labels, starts, batch_size, count, tuple(fields), levels, shuffle)


def eval_windows(
    arrays: Arrays,
    fields: tuple[Slice, ...],
    batch_size: int,
    *,
    starts: Any = None,
    labels: Arrays | None = None,
    levels: tuple[float, ...] = (),
) -> EvalWindows:
    """One ordered pass over windows of in-memory sequences, padded and masked."""
    labels = labels or {}
    keep_mask_free({*labels, *(field.name for field in fields)})
    starts, count = _check(arrays, labels, starts, fields)
    bounded("batch size", batch_size, at_least=1, whole=True)
    batch_size = min(batch_size, count)
    return EvalWindows(arrays, labels, starts, batch_size, count, tuple(fields), levels)


def _forecast_fields(look_back: int, horizon: int) -> tuple[Slice, ...]:
    if look_back < 1 or horizon < 1:
        raise UserError(
            "range", f"look_back {look_back} and horizon {horizon} must both be 1 or more"
        )
    return Slice("past", "values", 0, look_back), Slice("future", "values", look_back, horizon)


def forecasting(
    splits: Splits,
    look_back: int,
    horizon: int,
    batch_size: int,
    *,
    eval_batch_size: int = 256,
    seed: Any = 0,
) -> tuple[TrainWindows, EvalWindows | None, EvalWindows]:
    """Train, validation and test windows of one long series cut into consecutive parts.

    ``past [batch, look_back, variables]`` and ``future [batch, horizon, variables]``, float32. As
    published protocols have it, a validation or test window's future lies wholly in its part while its
    past may reach back into the one before; every window counts, none is dropped. The validation
    windows are None where the splits have no validation part.

    A variable that float32 would cost its digits, such as one that moves by 1 around 1e8, is given as
    differences from its training mean, with a warning; the windows' ``level`` is what to add again.

    Raises:
      UserError: a value is missing or infinite, the ``time`` of the rows (where they have one) repeats,
        runs backwards or leaves a gap, or no window fits.
    """
    fields = _forecast_fields(look_back, horizon)
    named = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    given = {name: columns for name, columns in named.items() if columns}
    for name in ("train", "test"):
        if name not in given:
            raise UserError("part-empty", f"the splits have no {name} part to cut windows from")
    parts = {name: complete(c["values"], f"the {name} part") for name, c in given.items()}
    if len({part.shape[1:] for part in parts.values()}) > 1:
        shapes = ", ".join(f"{name} {part.shape}" for name, part in parts.items())
        raise UserError(
            "variables-differ", f"the parts of a series need the same variables, not {shapes}"
        )
    if all("time" in columns for columns in given.values()):
        check_times(np.concatenate([columns["time"] for columns in given.values()]), "the series")
    ends = np.cumsum([len(parts.get(name, ())) for name in named])
    train_end, held_end, end = (int(place) for place in ends)
    whole = np.concatenate(list(parts.values()))
    levels = levels_of(parts["train"], whole)
    kept = kept_levels(levels, "variables")
    arrays = {"values": as_float32(whole - levels)}

    def starts(begin: int, end: int):
        if end - horizon + 1 <= max(begin, look_back):
            raise UserError(
                "no-window", f"no window of {look_back} + {horizon} fits {end - begin} rows"
            )
        return np.arange(max(begin, look_back), end - horizon + 1, dtype=np.int32) - look_back

    def part(begin: int, end: int) -> EvalWindows:
        places = starts(begin, end)
        return eval_windows(arrays, fields, eval_batch_size, starts=places, levels=kept)

    train = train_windows(
        arrays, fields, batch_size, seed, starts=starts(0, train_end), levels=kept
    )
    return train, part(train_end, held_end) if splits.validation else None, part(held_end, end)


def panel_forecasting(
    splits: Splits,
    look_back: int,
    horizon: int,
    batch_size: int,
    *,
    eval_batch_size: int = 256,
    seed: Any = 0,
) -> tuple[TrainWindows, EvalWindows | None, EvalWindows]:
    """The same for many series of different lengths (such as M4's): training windows from anywhere
    in each series' training part, one validation and one test window a series.

    ``past [batch, look_back]``, ``future [batch, horizon]`` and ``series [batch]``, its row in the
    data set. The validation windows are None where the splits have no validation part. A ``level`` is
    taken off each series apart.
    """
    fields = _forecast_fields(look_back, horizon)
    known, length = splits.train["values"], splits.train["length"]
    future = splits.test["values"]
    held = splits.validation["values"] if splits.validation else np.zeros((len(known), 0))
    if not len(known) == len(length) == len(held) == len(future):
        raise UserError(
            "panel-series-differ",
            f"a panel needs the same series in every part, not {len(known)} to train, "
            f"{len(held)} to validate and {len(future)} to test",
        )
    if length.max() > known.shape[1]:
        raise UserError(
            "length-beyond-series",
            f"a length of {length.max()} is beyond the {known.shape[1]} values given",
        )
    if length.min() < look_back + horizon:
        raise UserError(
            "no-window",
            f"the shortest series has {length.min()} training values: look_back + horizon is "
            f"{look_back + horizon}",
        )
    if horizon > future.shape[1] or 0 < held.shape[1] < horizon:
        raise UserError("no-window", f"horizon {horizon} is longer than the parts to forecast")
    pieces, levels, train_starts, ids, begin, offset = [], [], [], [], [], 0
    for row, (series, count) in enumerate(zip(known, length, strict=True)):
        whole = np.concatenate([series[:count], held[row], future[row]])
        whole = complete(whole, f"series {row}")
        levels.append(float(levels_of(whole[:count], whole)))
        pieces.append(whole - levels[-1])
        train_starts.append(offset + np.arange(count - look_back - horizon + 1))
        ids.append(np.full(len(train_starts[-1]), row, np.int32))
        begin.append(offset + count - look_back)
        offset += len(whole)
    kept = kept_levels(np.array(levels), "series")
    arrays = {"values": as_float32(np.concatenate(pieces))}
    rows = np.arange(len(known), dtype=np.int32)

    def one_each(shift: int) -> EvalWindows:
        places, labels = np.array(begin) + shift, {"series": rows}
        return eval_windows(
            arrays, fields, eval_batch_size, starts=places, labels=labels, levels=kept
        )

    train = train_windows(
        arrays,
        fields,
        batch_size,
        seed,
        starts=np.concatenate(train_starts),
        labels={"series": np.concatenate(ids)},
        levels=kept,
    )
    return train, one_each(0) if held.shape[1] else None, one_each(held.shape[1])


def unit_windows(
    columns: Columns, window: int, *, cap: float | None = None, last_only: bool = False
) -> dict[str, Any]:
    """Windows that end at each cycle of each unit (engine), as ``arrays``, ``fields``, ``starts`` and
    ``labels`` of :func:`train_windows` or :func:`eval_windows`: ``window [batch, window, sensors]``, ``rul``
    and ``unit [batch]``.

    Args:
      columns: ``unit [rows]``, ``sensors [rows, sensors]``, ``rul [rows]``, each unit in one piece.
      window: cycles a window; a unit with fewer is filled at the front with its first cycle.
      cap: largest remaining life a label may say (125 in Heimes 2008), None for no limit.
      last_only: only each unit's last window, as the test protocol has it.

    Raises:
      UserError: a sensor's value is missing or infinite, or float32 could not tell its values apart.
    """
    bounded("cap", cap, above=0)
    keep_digits({"sensors": complete(columns["sensors"], "the sensors")})
    pieces, starts, life, units, offset = [], [], [], [], 0
    for unit in np.unique(columns["unit"]):
        rows = np.flatnonzero(columns["unit"] == unit)
        sensors = columns["sensors"][rows]
        lacking = max(window - len(rows), 0)
        pieces.append(np.concatenate([np.repeat(sensors[:1], lacking, axis=0), sensors]))
        last = len(pieces[-1]) - window
        begin = np.arange(last if last_only else 0, last + 1)
        starts.append(offset + begin)
        life.append(columns["rul"][rows][begin + window - 1 - lacking])
        units.append(np.full(len(begin), unit, np.int32))
        offset += len(pieces[-1])
    rul = np.concatenate(life).astype(np.float32)
    labels = {
        "rul": rul if cap is None else np.minimum(rul, np.float32(cap)),
        "unit": np.concatenate(units),
    }
    return {
        "arrays": {"sensors": as_float32(np.concatenate(pieces))},
        "fields": (Slice("window", "sensors", 0, window),),
        "starts": np.concatenate(starts).astype(np.int32),
        "labels": labels,
    }
