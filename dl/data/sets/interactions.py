"""Who rated what: ``user`` and ``item`` int32 codes, ``value`` float32, ``time`` float64, ``[rows]``, by time."""

import dataclasses
import io
from pathlib import Path

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import File, damaged, fetch, read
from dl.data.sets.packed_images import arrays
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, take

_PLACE = "https://files.grouplens.org/datasets/movielens/ml-100k/"
_NAMES = ("user", "item", "value", "time")


def last_ones(user: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The part of every rating ``[rows]``: of users with three and more the last by ``place [rows]`` is test, the
    one before validation, and all others train."""
    order = np.lexsort((place, user))
    by_user = user[order]
    left = np.searchsorted(by_user, by_user, "right") - 1 - np.arange(len(user))
    enough = np.bincount(user)[by_user] >= 3
    part = np.full(len(user), "train", "<U10")
    part[order[enough & (left == 0)]] = "test"
    part[order[enough & (left == 1)]] = "validation"
    return part


def one_fold(fold: np.ndarray, tested: int) -> np.ndarray:
    """The part of every rating ``[rows]``: test where its ``fold`` (0, 1, ...) is ``tested``, of the others a
    tenth by seed validation.

    Raises:
      UserError: there is no such fold.
    """
    if not 0 <= tested <= fold.max():
        raise UserError("range", f"--fold must be from 0 to {fold.max()}, not {tested}")
    part = np.where(fold == tested, "test", "train").astype("<U10")
    rest = np.flatnonzero(fold != tested)
    part[rest[hold_out(len(rest), 0.1, 0)[1]]] = "validation"
    return part


def _rows(path: Path) -> Columns:
    try:
        cells = np.loadtxt(io.BytesIO(read(path)), np.int64, delimiter="\t", ndmin=2)
        user, item, value, time = cells.T
    except ValueError as error:
        raise damaged(path, error) from None
    columns = (user - 1).astype(np.int32), (item - 1).astype(np.int32), value.astype(np.float32)
    return dict(zip(_NAMES, (*columns, time.astype(np.float64)), strict=True))


def _divided(rows: Columns, part: np.ndarray, info: Info) -> Splits:
    """The rows by part; equal times stay in the order of the file."""
    order = np.argsort(rows["time"], kind="stable")
    train, held, test = (
        take(rows, order[part[order] == name]) for name in ("train", "validation", "test")
    )
    return Splits(train, held, test, info)


def _read_movielens(paths, info, validation, seed):
    rows = _rows(paths["u.data"])
    part = last_ones(rows["user"], rows["time"])
    if validation is not None:
        rest = np.flatnonzero(part != "test")
        part[rest] = "train"
        part[rest[hold_out(len(rest), validation, seed)[1]]] = "validation"
    return _divided(rows, part, _named(paths["u.item"], info, rows))


def _named(path: Path, info: Info, rows: Columns) -> Info:
    """``info`` with the names of users and items by their codes, and the films' titles."""
    titles = [line.split("|")[1] for line in read(path).decode("latin-1").splitlines()]
    if len(titles) <= rows["item"].max():
        raise damaged(path, f"{len(titles)} films, and {rows['item'].max() + 1} are rated")
    users, items = (tuple(map(str, range(1, 1 + n))) for n in (rows["user"].max() + 1, len(titles)))
    details = {"users": users, "items": items, "titles": tuple(titles)}
    return dataclasses.replace(info, details=details)


def movielens_fold(folder: Path, fold: int, info: Info) -> Splits:
    """MovieLens 100K with the official test fold ``u1`` to ``u5`` (0 to 4), of the rest a tenth validation.

    The folds are in ``u1.test`` to ``u5.test``, or in ``splits.npz`` as ``u_test_fold`` (1 to 5) for each row of
    ``u.data``.
    """
    files = fetch(folder, MOVIELENS.files, info.title)
    rows = _rows(files["u.data"])
    packed = folder / "splits.npz"
    if packed.is_file():
        of_row = arrays(packed, "u_test_fold")["u_test_fold"].astype(np.int64) - 1
    else:
        tests = (File(f"u{n}.test", (f"{_PLACE}u{n}.test",)) for n in range(1, 6))
        held = [_rows(path) for path in fetch(folder, tests, info.title).values()]
        place = {pair: n for n, part in enumerate(held) for pair in _pairs(part)}
        of_row = np.array([place.get(pair, -1) for pair in _pairs(rows)])
    return _divided(rows, one_fold(of_row, fold), _named(files["u.item"], info, rows))


def _pairs(rows: Columns) -> list[tuple[int, int]]:
    return list(zip(rows["user"].tolist(), rows["item"].tolist(), strict=True))


MOVIELENS = DataSet(
    Info(
        "movielens_100k",
        "MovieLens 100K",
        "Harper & Konstan 2015, GroupLens",
        "research use, no redistribution without permission",
        "recommendation",
        "100,000 ratings from 1 to 5 that 943 users gave 1,682 films. Each user's last rating is test and the one "
        "before validation, equal times in the order of the file; or, by --fold, one of the five official folds "
        "is test and a tenth of the rest validation",
    ),
    (
        File(
            "u.data",
            (_PLACE + "u.data",),
            ("06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",),
        ),
        File(
            "u.item",
            (_PLACE + "u.item",),
            ("553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",),
        ),
    ),
    _read_movielens,
)
SETS = (MOVIELENS,)
