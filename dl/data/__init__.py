"""Named data sets, and batches of them as pure functions of (seed, step)."""

from dl.data.sets.catalogue import describe, load, load_table, names, prepare
from dl.data.splits import Info, Splits

__all__ = ["Info", "Splits", "describe", "load", "load_table", "names", "prepare"]
