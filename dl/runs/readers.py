"""One strict reader of what a run's files say, whoever wrote them and whatever befell them since."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.runs.files import PARSED, opened_plain, parse, printable, read_plain

LONGEST = 200  # characters of a metric's name
Scalars = dict[str, dict[str, np.ndarray]]


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of one JSON object a line; a last line cut short by a kill, or still being
    written, is left out.

    Raises:
      UserError: another line is damaged, or no record of dl's.
    """
    try:
        with opened_plain(path) as file:
            for number in itertools.count(1):
                line = file.readline(PARSED)
                if not line.endswith(b"\n") and len(line) < PARSED:
                    return
                try:
                    record = parse(line)
                    _check_record(record)
                except ValueError:
                    if b"\n" not in file.readline(PARSED):  # synced blocks may outlast earlier ones
                        return
                    raise UserError(
                        "record-damaged", f"{path} is damaged in line {number}: remove that line"
                    ) from None
                yield record
    except FileNotFoundError:
        return


def _check_record(record: Any) -> None:
    """Raise ValueError unless it is a line of metrics.jsonl or of digests.jsonl."""
    step = record.get("step") if isinstance(record, dict) else None
    if type(step) is not int or not 0 <= step < 2**53:
        raise ValueError
    told = record.get("metrics" if "event" in record else "leaves")
    if not isinstance(told, dict) or not isinstance(record.get("event", ""), str):
        raise ValueError
    if "leaves" in record and not all(isinstance(value, str) for value in told.values()):
        raise ValueError


def numbers(metrics: dict[str, Any]) -> dict[str, Any]:
    """Stored metrics with what JSON has no number for, ``'nan'``, ``'inf'`` and ``'-inf'``, as floats (and what no
    program of JAX computes, which nothing could draw, as infinite), and names that a terminal may show, of at most
    :data:`LONGEST` characters."""

    def number(value: Any) -> Any:
        if isinstance(value, list):
            return [number(each) for each in value]
        if isinstance(value, int | float) and abs(value) > 1e100:
            return math.inf if value > 0 else -math.inf
        large = type(value) is int and abs(value) > 2**53
        return float(value) if large or value in ("nan", "inf", "-inf") else value

    return {printable(name)[:LONGEST]: number(value) for name, value in metrics.items()}


def read_scalars(metrics: Path) -> Scalars:
    """``{metric: {set: [n, 2] of (step, value)}}`` of a run's ``metrics.jsonl``."""
    points: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for record in read_records(metrics):
        if record["event"] not in ("train", "eval"):
            continue
        for name, value in numbers(record["metrics"]).items():
            part, _, metric = name.partition("/")
            if isinstance(value, int | float):
                points.setdefault(metric, {}).setdefault(part, []).append((record["step"], value))
    return {m: {s: np.array(p) for s, p in sets.items()} for m, sets in points.items()}


def read_baselines(folder: Path) -> dict[str, dict[str, float]]:
    """``{name: {'test/accuracy': value}}`` of the simple rivals that a run was compared with."""
    file = folder / "baselines.json"
    found = read_object(file) or {}
    rivals = {printable(name): numbers(entry(file, found, name, dict)) for name in found}
    for reached in rivals.values():
        for metric in reached:
            entry(file, reached, metric, int, float)
    return rivals


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object that the file holds; None where there is no file.

    Raises:
      UserError: it holds something else.
    """
    try:
        found = parse(read_plain(path, largest=PARSED))
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__} in place of an object")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise UserError(
            "record-damaged", f"{path} is not valid JSON ({error}): restore it from a copy"
        ) from None
    return found


def known_to_orbax(path: Path) -> bool:
    """Whether that file holds what Orbax may note of a checkpoint, as it reads it without a traceback."""
    kinds: dict[str, Any] = {"item_handlers": dict | str, "metrics": dict, "custom_metadata": dict}
    kinds |= {"init_timestamp_nsecs": int, "commit_timestamp_nsecs": int}
    try:
        said = read_object(path) or {}
    except UserError:
        return False
    known = (value is None or isinstance(value, kinds.get(n, object)) for n, value in said.items())
    return all(known) and not said.get("performance_metrics")


def entry(path: Path, values: dict[str, Any], name: str, *kinds: type | None) -> Any:
    """``values[name]`` of the file at ``path``, None where there is none; raises UserError where it is of none
    of the ``kinds``."""
    if not isinstance(values, dict):
        raise UserError(
            "record-damaged", f"{path} has no object for {name!r}: restore it from a copy"
        )
    found = values.get(name)
    if name in values and type(found) not in [k if k else type(None) for k in kinds]:
        raise UserError(
            "record-damaged", f"{path}: {name!r} cannot be {found!r:.40}: restore it from a copy"
        )
    return found


_TEXT, _NUMBER = (str, None), (int, float, None)
_RESULT: dict[str, tuple[type | None, ...]] = {
    **{"metrics": (dict,), "selected": (dict,), "ended": (str,), "steps": (int,)},
    **{"note": _TEXT, "digest": _TEXT, "wall_seconds": _NUMBER, "compile_seconds": _NUMBER},
    **dict.fromkeys(("examples_per_second", "input_wait_seconds", "peak_memory_bytes"), _NUMBER),
}
_SELECTED = {"rule": _TEXT, "step": (int,), "value": _NUMBER}


def read_result(folder: Path) -> dict[str, Any]:
    """``result.json`` of a run; empty while it is unfinished.

    Raises:
      UserError: an entry is absent, or not of its type.
    """
    file = folder / "result.json"
    found = read_object(file)
    if found is None:
        return {}
    for name, kinds in _RESULT.items():
        entry(file, found, name, *kinds)
    found = {"metrics": {}, "selected": {}, "ended": "done", **found}
    for name, kinds in _SELECTED.items() if found["selected"] else ():
        if entry(file, found["selected"], name, *kinds) is None and name == "step":
            raise UserError("record-damaged", f"{file} has no {name!r}: restore it from a copy")
    return found | {"selected": numbers(found["selected"])}
