"""Clips with a class each: ``values`` float32 ``[n, longest, features]``, ``length`` and ``label`` int32."""

import dataclasses

import numpy as np

from dl.core.errors import bounded
from dl.data.readers.files import File
from dl.data.sets.packed_images import arrays
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, take

_ACTIONS = (
    *("catch", "clap", "golf", "jump", "pick", "pour", "pullup", "push", "run", "sit"),
    *("stand", "throw", "walk", "wave"),
)


def padded(values: np.ndarray, offsets: np.ndarray) -> Columns:
    """``values [rows, features]`` end to end as ``values [n, longest, features]`` and ``length``; clip ``i``
    is the rows from ``offsets[i]`` to ``offsets[i + 1]``."""
    length = np.diff(offsets)
    out = np.zeros((len(length), length.max(), values.shape[1]), np.float32)
    place = np.arange(len(values)) - np.repeat(offsets[:-1], length)
    out[np.repeat(np.arange(len(length)), length), place] = values
    return {"values": out, "length": length.astype(np.int32)}


def official_split(splits: Splits, number: int) -> Splits:
    """The official split of that number, from 1 on; a tenth of its training rows is validation, by seed, or of its
    sessions where rows are windows of such."""
    rows = splits.train
    count = rows["test_in"].shape[1]
    bounded("--official", number, at_least=1, at_most=count, whole=True)
    held = rows["test_in"][:, number - 1] > 0
    own = {name: x for name, x in rows.items() if name not in ("test_in", "session")}
    free = np.flatnonzero(~held)
    session = rows.get("session", np.arange(len(held)))[free]
    _, first, place = np.unique(session, return_index=True, return_inverse=True)
    _, chosen = hold_out(len(first), 0.1, 0, rows["label"][free][first])
    inside = np.isin(place, chosen)
    parts = (free[~inside], free[inside], np.flatnonzero(held))
    train, validation, test = (take(own, part) for part in parts)
    return Splits(train, validation, test, splits.info)


def resampled(columns: Columns, frames: int) -> Columns:
    """``values [n, frames, features]``: every clip at ``frames`` even moments of its own length, on a line
    between its rows; the other columns stay, without ``length``."""
    values, length = columns["values"], columns["length"]
    moment = np.linspace(0, 1, frames) * (length[:, None] - 1)
    before = np.floor(moment).astype(int)
    after = np.minimum(before + 1, length[:, None] - 1)
    share = (moment - before)[..., None].astype(np.float32)
    row = np.arange(len(values))[:, None]
    at = values[row, before] * (1 - share) + values[row, after] * share
    rest = {name: x for name, x in columns.items() if name not in ("values", "length")}
    return {"values": at.astype(np.float32), **rest}


def _read_poses(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    found = arrays(path, "pose", "offsets", "label", "test_in_split", "classes")
    rows = padded(found["pose"].reshape(len(found["pose"]), -1), found["offsets"])
    rows |= {"label": found["label"].astype(np.int32), "test_in": found["test_in_split"]}
    classes = tuple(map(str, found["classes"]))
    return Splits(rows, {}, {}, dataclasses.replace(info, classes=classes))


def _read_radar(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    names = ("x", "y", "z", "velocity", "frame_start", "frame_session")
    found = arrays(path, *names, "session_label", "session_test", "classes")
    frames = radar_frames(*(found[name] for name in names[:5]))
    session = found["frame_session"].astype(np.int64)
    count, step = 60, 10  # windows of the paper: two seconds, a third apart
    starts = [
        begin + offset
        for begin, length in zip(
            *np.unique(session, return_index=True, return_counts=True)[1:], strict=True
        )
        for offset in range(0, length - count + 1, step)
    ]
    rows = np.array(starts)[:, None] + np.arange(count)
    of = session[rows[:, 0]]
    columns = {
        "values": frames[rows],
        "length": np.full(len(rows), count, np.int32),
        "label": found["session_label"][of].astype(np.int32),
        "test_in": found["session_test"][of][:, None],
        "session": of,
    }
    classes = tuple(map(str, found["classes"]))
    return Splits(columns, {}, {}, dataclasses.replace(info, classes=classes))


def radar_frames(x, y, z, velocity, start: np.ndarray) -> np.ndarray:
    """What each frame of a radar's points holds, float32 ``[frames, 104]``: how many points lie in each of 8 x 10
    fields across and up, and of each of 8 heights their sum of velocities, of these without sign, and how far
    ahead they are in the mean, less that of the frame.

    Args:
      x, y, z: of points end to end, in cm, ahead, across and up; velocity: of each, in steps.
      start: ``[frames + 1]``, where each frame's points begin.
    """
    frame = np.repeat(np.arange(len(start) - 1), np.diff(start))
    count = len(start) - 1

    def field(values, low, high, bins):
        return np.clip(((values - low) * bins / (high - low)).astype(int), 0, bins - 1)

    across, up, height = field(y, -100, 100, 8), field(z, -150, 150, 10), field(z, -150, 150, 8)
    where = np.bincount((frame * 8 + across) * 10 + up, minlength=80 * count).reshape(count, 80)

    def by_height(weights):
        return np.bincount(frame * 8 + height, weights, 8 * count).reshape(count, 8)

    points = np.maximum(by_height(np.ones(len(x))), 1)
    ahead = np.bincount(frame, x, count) / np.maximum(np.bincount(frame, minlength=count), 1)
    apart = by_height(x - ahead[frame]) / points / 50
    moved = by_height(velocity), by_height(np.abs(velocity))
    return np.concatenate([where, *moved, apart], 1).astype(np.float32)


SETS = (
    DataSet(
        Info(
            "jhmdb_pose",
            "J-HMDB body joints",
            "Jhuang et al. 2013; joints as DD-Net has them (Yang et al. 2019)",
            "research use",
            "classification",
            "609 clips of 14 actions, 15 to 40 frames of 15 joints, x and y in the person's box: the published "
            "21 actions less the seven of two words; three official splits (--official)",
            _ACTIONS,
        ),
        (File("jhmdb_pose.npz"),),
        _read_poses,
    ),
    DataSet(
        Info(
            "radhar",
            "RadHAR",
            "Singh et al. 2019, nesl/RadHAR; 186 of the 200 recordings",
            "BSD 3-clause",
            "classification",
            "points of people moving before a millimetre-wave radar, as 104 numbers a frame (radar_frames); "
            "windows of 60 frames, 10 apart; official split by recording, and of its training ones a tenth is "
            "validation",
            ("boxing", "jack", "jump", "squats", "walk"),
        ),
        (File("radhar.npz"),),
        _read_radar,
    ),
)
