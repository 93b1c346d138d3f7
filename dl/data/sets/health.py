"""Stays in intensive care: hourly ``values`` and what is ``static``, NaN where missing, and ``label``."""

import dataclasses

import numpy as np

from dl.core.errors import UserError
from dl.data.irregular import hourly
from dl.data.readers.files import File
from dl.data.sets.packed_images import arrays
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, take

STATIC = ("Age", "Gender", "Height", "ICUType")  # fixed at minute 0
HOURS = 48


def _stays(path) -> tuple[Columns, tuple[str, ...], tuple[str, ...]]:
    found = arrays(path, "variables", "offsets", "died_in_hospital", "minute", "variable", "value")
    names = found["variables"].tolist()
    offsets, label = found["offsets"], found["died_in_hospital"].astype(np.int32)
    hour, code = found["minute"] / 60, found["variable"].astype(int)
    value = np.where(found["value"] == -1, np.nan, found["value"])  # "unknown"
    row = np.repeat(np.arange(len(label)), np.diff(offsets))
    grid = hourly(row, hour, code, value, (len(label), HOURS, len(names)))
    fixed = [names.index(name) for name in STATIC]
    others = [place for place in range(len(names)) if place not in fixed]
    age, gender, height, unit = grid[:, 0, fixed].T
    static = [age, gender, np.where((height > 120) & (height < 230), height, np.nan)]
    static += [np.where(np.isnan(unit), np.nan, unit == kind) for kind in range(1, 5)]
    columns = {"values": grid[..., others], "static": np.stack(static, 1).astype(np.float32)}
    said = (*STATIC[:3], *(f"unit {kind}" for kind in range(1, 5)))
    return {**columns, "label": label}, tuple(names[n] for n in others), said


def _read_physionet(paths, info, validation, seed) -> Splits:
    (train, names, static), (test, *told) = (_stays(paths[f"set_{x}.npz"]) for x in "ac")
    if told != [names, static]:
        raise UserError("file-damaged", f"{paths['set_c.npz']} has other variables than set_a.npz")
    count = 0.2 if validation is None else validation
    kept, held = hold_out(len(train["label"]), count, seed, train["label"])
    details = {"variables": names, "static": static}
    info = dataclasses.replace(info, details=details)
    return Splits(take(train, kept), take(train, held), test, info)


SETS = (
    DataSet(
        Info(
            "physionet2012",
            "PhysioNet/CinC Challenge 2012",
            "Silva et al. 2012, PhysioNet",
            "ODC-BY 1.0",
            "classification",
            "The first 48 hours of stays in intensive care, 37 variables at times of their own, and "
            "death in hospital (14 %). Set-c's 4,000 are test; a fifth of set-a's 3,996 held out by seed, "
            "classes in proportion",
            ("survived", "died"),
        ),
        (
            File(
                "set_a.npz",
                (),
                ("d0a1651baee56975845b68abde4cc96c1e798f1a6a9bbc49b499af34a8b0cff7",),
            ),
            File(
                "set_c.npz",
                (),
                ("c74bd2fb896a165d291400f392468957ae31e489d6732e512637db575cfb89b9",),
            ),
        ),
        _read_physionet,
    ),
)
