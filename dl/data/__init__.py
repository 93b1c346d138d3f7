"""Named data sets, and batches of them as pure functions of (seed, step)."""

from dl.data.own.alike import open_alike
from dl.data.own.door import open
from dl.data.prepared import prepared
from dl.data.readers.files import use_data_folder
from dl.data.sets.catalogue import describe, load, load_table, names, prepare
from dl.data.splits import Info, Splits, known, take

__all__ = [
    "Info",
    "Splits",
    "describe",
    "known",
    "load",
    "load_table",
    "names",
    "open",
    "open_alike",
    "prepare",
    "prepared",
    "take",
    "use_data_folder",
]
