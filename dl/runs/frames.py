"""Columns as a data frame, of the package that is installed."""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from dl.core.errors import need


def frame(columns: Mapping[str, Sequence[Any]]) -> Any:
    """A Polars frame of ``columns``, or a pandas one where Polars is not installed.

    Raises:
      UserError: neither is.
    """
    if importlib.util.find_spec("polars") is None and importlib.util.find_spec("pandas"):
        return importlib.import_module("pandas").DataFrame(columns)
    return need("polars", extra="frames", why="a data frame").DataFrame(columns, strict=False)
