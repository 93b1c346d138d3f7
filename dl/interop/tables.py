"""Tensors of two layouts, told apart by one table that is read in both directions.

A row is ``(our path, their names, layout)``, such as

    ("params/body/layer_*/attention/qkv/kernel", "h.*.attn.{q,k,v}.weight", LINEAR)

where ``*`` is a layer's number and ``{q,k,v}`` names tensors that ours holds joined on its last axis. One
named ``~``, such as a bias, they do not have: ours is zero there, or changes nothing.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from dl.core.errors import UserError

Tensors = dict[str, np.ndarray]


class Layout(NamedTuple):
    """How an array of theirs becomes one of ours, and back: axes to transpose, axes put in front."""

    axes: tuple[int, ...] | None = None
    leading: int = 0

    def ours(self, x: np.ndarray) -> np.ndarray:
        x = x.reshape(x.shape[self.leading :])
        return np.transpose(x, self.axes) if self.axes else x

    def theirs(self, x: np.ndarray) -> np.ndarray:
        if self.axes:
            x = np.transpose(x, np.argsort(self.axes))
        return x.reshape((1,) * self.leading + x.shape)


class Offset(NamedTuple):
    """Theirs is kept as what it differs from 1."""

    def ours(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, np.float32) + np.float32(1)

    def theirs(self, x: np.ndarray) -> np.ndarray:
        return x - np.float32(1)


class Later(NamedTuple):
    """A table whose first rows, of theirs, stand for nothing that is read."""

    unread: int

    def ours(self, x: np.ndarray) -> np.ndarray:
        return x[self.unread :]

    def theirs(self, x: np.ndarray) -> np.ndarray:
        return np.pad(x, ((self.unread, 0), (0, 0)))


SAME = Layout()
LINEAR = Layout((1, 0))  # [out, in] to [in, out]
CONV = Layout((2, 3, 1, 0))  # [out, in, height, width] to [height, width, in, out]
SERIES = Layout((2, 1, 0))  # [out, in, time] to [time, in, out]
BATCHED = Layout(None, 1)  # [1, ...] to [...]
FROM_ONE = Offset()


class Patches(NamedTuple):
    """A convolution whose stride is its size, ours a matrix ``[size * size * channels, out]``."""

    size: int

    def ours(self, x: np.ndarray) -> np.ndarray:
        return CONV.ours(x).reshape(-1, x.shape[0])

    def theirs(self, x: np.ndarray) -> np.ndarray:
        return CONV.theirs(x.reshape(self.size, self.size, -1, x.shape[-1]))


AnyLayout = Layout | Patches | Offset | Later
Row = tuple[str, str, AnyLayout]


def dense(ours: str, theirs: str, kernel: AnyLayout = LINEAR) -> tuple[Row, ...]:
    """The rows of a linear layer, or of a convolution."""
    return (
        (f"{ours}/kernel", f"{theirs}.weight", kernel),
        (f"{ours}/bias", f"{theirs}.bias", SAME),
    )


def norm(ours: str, theirs: str) -> tuple[Row, ...]:
    """The rows of a layer norm."""
    return ((f"{ours}/scale", f"{theirs}.weight", SAME), (f"{ours}/bias", f"{theirs}.bias", SAME))


def blocks(
    theirs: str,
    qkv: str,
    out: str,
    attention_norm: str,
    first: str,
    second: str,
    feed_forward_norm: str,
    kernel: AnyLayout = LINEAR,
) -> tuple[Row, ...]:
    """The rows of a Transformer's layers, below ``body``, from the names of the modules of theirs."""
    ours, theirs = "body/layer_*/", f"{theirs}.*."
    return (
        *dense(f"{ours}attention/qkv", theirs + qkv, kernel),
        *dense(f"{ours}attention/out", theirs + out, kernel),
        *norm(f"{ours}attention_norm", theirs + attention_norm),
        *dense(f"{ours}in", theirs + first, kernel),
        *dense(f"{ours}out", theirs + second, kernel),
        *norm(f"{ours}feed_forward_norm", theirs + feed_forward_norm),
    )


def below(top: str, rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows with our paths put below ``top``."""
    return tuple((f"{top}/{ours}", theirs, layout) for ours, theirs, layout in rows)


class Entry(NamedTuple):
    """One array of ours: its path, the names of theirs it is joined from and their shares of the axis."""

    path: str
    names: tuple[str, ...]
    layout: AnyLayout
    shares: tuple[int, ...]

    @property
    def real(self) -> list[str]:
        """The names of tensors that they have."""
        return [name for name in self.names if "~" not in name]


def expand(
    rows: Iterable[Row],
    places: Sequence[tuple[str, str]] = (),
    shares: Mapping[int, tuple[int, ...]] | None = None,
) -> list[Entry]:
    """The rows with ``*`` replaced by every one of ``places``: what stands there in our path, in theirs.

    Args:
      shares: by the number of tensors joined, what each takes of the axis, in proportion; equal parts
        otherwise.
    """
    entries = []
    for path, names, layout in rows:
        for ours, theirs in places if "*" in path else [("", "")]:
            found = _names(names.replace("*", theirs))
            part = (shares or {}).get(len(found), (1,) * len(found))
            entries.append(Entry(path.replace("*", ours), found, layout, part))
    return entries


def _names(pattern: str) -> tuple[str, ...]:
    """``a.{b,c}.d`` as ``('a.b.d', 'a.c.d')``."""
    braces = re.search(r"\{(.*?)\}", pattern)
    if braces is None:
        return (pattern,)
    return tuple(pattern.replace(braces[0], one) for one in braces[1].split(","))


def to_ours(entries: Iterable[Entry], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The variables, float32, of those entries whose tensors are all there."""
    flat = {}
    for entry in entries:
        if all(name in tensors for name in entry.real):
            try:
                known = {name: entry.layout.ours(tensors[name]) for name in entry.real}
                parts = [known.get(name, 0 * known[entry.real[0]]) for name in entry.names]
                whole = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
            except ValueError:
                shapes = ", ".join(f"{name} {tensors[name].shape}" for name in entry.real)
                raise UserError(
                    "tensor-shapes", f"tensors of shapes that do not fit: {shapes}"
                ) from None
            flat[tuple(entry.path.split("/"))] = np.ascontiguousarray(whole, np.float32)
    return traverse_util.unflatten_dict(flat)


def to_theirs(entries: Iterable[Entry], variables: Mapping[str, Any]) -> Tensors:
    """The tensors of the variables, float32; every one of ours must have its entry."""
    flat = traverse_util.flatten_dict(dict(variables), sep="/")
    tensors = {}
    for entry in entries:
        if entry.path not in flat:
            raise UserError(
                "weights-of-another-model",
                f"the variables given hold no {entry.path}: are they of this model?",
            )
        whole = np.asarray(flat.pop(entry.path), np.float32)
        cuts = np.cumsum(entry.shares)[:-1] * whole.shape[-1] // sum(entry.shares)
        parts = np.split(whole, cuts, axis=-1)
        for name, part in zip(entry.names, parts, strict=True):
            if name in entry.real:
                tensors[name] = np.ascontiguousarray(entry.layout.theirs(part))
    if flat:
        raise UserError("hf-layout", f"the layout has no place for {', '.join(sorted(flat)[:3])}")
    return tensors
