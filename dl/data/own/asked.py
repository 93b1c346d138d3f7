"""Tables without the column that is to be predicted, read by the module of their kind as if they had it."""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.classes import known_classes
from dl.data.own.found import Found
from dl.data.own.paths import files_in, is_table
from dl.data.readers.frames import Frame
from dl.data.splits import Columns

ASKED = "(to be predicted)"


def answered(
    files: Sequence[Path], own: Any, kind: str, reader: Callable[[Path], Frame], word: str
) -> tuple[list[Path], list[Found]]:
    """Tables as the kind's module reads them, with a column :data:`ASKED` of one ``word`` in place of what is
    to be predicted."""
    own = dataclasses.replace(own, split=None, group=None)
    every = [below for path in files for below in files_in(path)]
    module, found = importlib.import_module(f"dl.data.own.{kind}"), []
    for path in every:
        if not is_table(path):
            raise UserError("set-of-another-kind", f"{path} is no table of {kind}")
        frame = reader(path)
        table = frame.columns.append_column(ASKED, [[word] * frame.rows])
        try:
            with known_classes():
                found.append(module.read(table, own))
        except UserError as error:
            error.message = f"{path}: {error.message}"
            raise
    if not every:
        raise UserError("part-empty", f"there are no tables in {', '.join(map(str, files[:3]))}")
    return every, found


def joined(parts: Sequence[Columns]) -> Columns:
    """The rows of all parts, their labels ones that say nothing."""
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**whole, "label": np.zeros(len(whole["label"]), np.int32)}
