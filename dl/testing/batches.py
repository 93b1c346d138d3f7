"""Batches, proved against the contract."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.contract import changes
from dl.core.experiment import Batches
from dl.core.state import array_digest
from dl.testing.rules import explained, rule, same

STEPS = 1000  # of a training set that are read at most

PURE = "draw from (seed, step) alone, as dl.core.random.permute does: keep no generator, no cursor"


class _Read(NamedTuple):
    """A batch on the host, and the rows that it says it holds."""

    batch: dict[str, np.ndarray]
    rows: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """The rows that are no padding."""
        return self.rows[self.batch["mask"] > 0] if "mask" in self.batch else self.rows


def check_batches(batches: Batches, by_step: Sequence[str] = ()) -> None:
    """Prove that ``batches`` keep the contract of :class:`dl.Batches`.

    ``batches[step]`` is a pure function of the step, traced or not; ``indices`` name its rows; the digest stays.
    A training set (which has no length) holds every row once an epoch, an evaluation set once under its mask.
    A stream reads on from any step, and the shards of a batch are together the whole.

    Args:
      batches: of a small set: two epochs are read, at most 1,000 batches.
      by_step: columns that tell of the step, not of the row, such as a text's ``reset``.

    Raises:
      AssertionError: a rule does not hold.
    """
    if hasattr(batches, "shard"):
        batches = dataclasses.replace(batches, shard=(0, 1))  # type: ignore[type-var]
    for name in ("size", "batch_size"):
        value = getattr(batches, name)
        rule(isinstance(value, int) and value > 0, f"{name} is 1 or more", f"it is {value!r}")
    digests = {batches.digest(), batches.digest()}
    text = all(isinstance(one, str) for one in digests)
    name, fix = "the digest is one string for one set", "hash the examples, and nothing else"
    rule(text and len(digests) == 1, name, f"it is {digests}", fix)
    evaluates, read, seen = hasattr(batches, "__len__"), list[_Read](), 0
    steps = len(batches) if evaluates else STEPS  # type: ignore[arg-type]
    while len(read) < steps and (evaluates or seen < 2 * batches.size):
        read.append(_read(batches, len(read)))
        _check_form(len(read) - 1, read[-1], read[0], evaluates)
        seen += len(read[-1].real)
    _check_purity(batches, read)
    _check_rows(batches.size, read, by_step, evaluates)
    if hasattr(batches, "iterate"):
        _check_stream(batches, read)


def _read(batches: Any, step: int) -> _Read:
    with explained(f"batches[{step}] and indices({step}) can be read"):
        rows = np.asarray(batches.indices(step))
        batch = {name: np.asarray(column) for name, column in batches[step].items()}
    index, count = getattr(batches, "shard", (0, 1))
    part = len(rows) // count
    return _Read(batch, rows[index * part : (index + 1) * part])


def _check_form(step: int, read: _Read, first: _Read, evaluates: bool) -> None:
    (batch, rows), changed = read, changes(first.batch, read.batch)
    name = "all batches have the same columns, shapes and dtypes"
    rule(not changed, name, f"at step {step} {changed}", "pad the last, and give all a mask")
    lengths = {name: column.shape[:1] for name, column in batch.items()}
    numbers = rows.dtype.kind in "iu" and (rows >= 0).all()
    name = "indices gives a number from 0 for every row of a batch"
    alike = {*lengths.values()} == {rows.shape}
    rule(numbers and alike, name, f"at step {step} {rows} for {lengths}")
    mask = batch.get("mask", np.zeros(1, int) if evaluates else np.ones(1))
    marks = mask.dtype.kind == "f" and np.isin(mask, (0.0, 1.0)).all()
    fix = "add mask [batch], float: 1.0 for real rows, 0.0 for padding"
    seen = f"at step {step} its mask is {batch.get('mask')}"
    rule(marks, "a batch marks its real rows", seen, fix)


def _check_purity(batches: Any, read: list[_Read]) -> None:
    steps = sorted({0, len(read) // 2, len(read) - 1}, reverse=True)
    for step in steps:
        name = f"batches[{step}] is the same whenever it is read"
        same(name, read[step], _read(batches, step), PURE, True)
    if hasattr(batches, "iterate"):
        return
    traced = jax.jit(lambda batches, step: _Read(batches[step], batches.indices(step)))
    for step in steps:
        with explained("a compiled step takes the batches as a pytree, and its step traced"):
            found = traced(batches, jnp.int32(step))
        name = f"batches[{step}] is the same for a traced step"
        # As a device holds it: no integer and no float there has 64 bits.
        same(name, jax.tree.map(jnp.asarray, read[step]), found, "compute with jax.numpy", True)


def _check_rows(size: int, read: list[_Read], by_step: Sequence[str], evaluates: bool) -> None:
    content: dict[int, str] = {}
    for step, (batch, rows) in enumerate(read):
        names = sorted(batch.keys() - {"mask", *by_step})
        for place, row in enumerate(rows.tolist()):
            own = "".join(array_digest(batch[name][place]) for name in names)
            seen = f"row {row} holds other values at step {step} than before"
            fix = "give what columns are taken by, and name columns of the step in by_step"
            same_row = content.setdefault(row, own) == own
            rule(same_row, "indices name the rows of a batch", seen, fix)
    order = np.concatenate([one.real for one in read])
    if evaluates:
        seen = f"it sees {len({*order})} of {size}, {len(order)} times in all"
        name, fix = "evaluation sees every row once", "mask what pads the last batch, and no more"
        rule(len(order) == size == len({*order}), name, seen, fix)
        return
    for start in range(0, len(order) - size + 1, size):
        found = len({*order[start : start + size]})
        seen = f"epoch {start // size} holds {found} of {size}"
        fix = "shuffle by a permutation (dl.core.random.permute), and drop none where an epoch ends"
        rule(found == size, "an epoch holds every row once", seen, fix)


def _check_stream(batches: Any, read: list[_Read]) -> None:
    start = len(read) // 2
    with explained(f"iterate({start}) reads on from there"):
        found = list(itertools.islice(batches.iterate(start), len(read) - start))
    name = "iterate(start) gives batches[start], batches[start + 1], ..."
    same(name, [one.batch for one in read[start:]], found, f"begin at start, {start} say", True)
    if hasattr(batches, "shard") and batches.batch_size % 2 == 0:
        halves = [_read(dataclasses.replace(batches, shard=(i, 2)), 0).batch for i in range(2)]
        whole = {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
        name = "the shards of a batch are together the whole"
        same(name, read[0].batch, whole, "shard (index, count) is one of count pieces", True)
