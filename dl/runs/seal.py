"""A finished run's seal: a digest by which it is known that what the run recorded is what it was at its end. Equal
runs have equal seals."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dl.core.errors import UserError
from dl.runs.folder import RunFolder, read_json, to_json, write_json

# What differs between equal runs; the seal itself is not in what it seals.
_LEFT_OUT = {
    "seal",
    "wall_seconds",
    "compile_seconds",
    "examples_per_second",
    "input_wait_seconds",
    "peak_memory_bytes",
}


def write_result(folder: RunFolder, result: Mapping[str, Any]) -> None:
    """Write ``result.json``, sealed with all that the run has logged."""
    write_json(folder.result, {**result, "seal": _seal(folder, to_json(result))})


def check_seal(folder: RunFolder) -> None:
    """Raise UserError where a finished run's result, or a line that it logged, is not what it was at its end."""
    result = read_json(folder.result)
    try:
        # Only a run of an older release, whose lock promises none, may lack its seal.
        locked = read_json(folder.lock) if folder.lock.exists() else {}
        whole = (
            not locked.get("sealed")
            if "seal" not in result
            else result["seal"] == _seal(folder, result)
        )
    except UserError:  # what cannot be read
        whole = False
    if not whole:
        raise UserError(
            "log-changed",
            f"{folder.path} has another result.json, metrics.jsonl or digests.jsonl than at the end of its run: "
            "restore them from a copy, or start anew under another --name",
        )


def _seal(folder: RunFolder, result: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a result and of the lines of both logs, their clocks left out."""
    hashed = hashlib.sha256()
    for path in (folder.metrics, folder.digests):
        for line in folder.records(path) if path.exists() else ():
            if ("event" in line) != (path == folder.metrics):
                raise UserError("record-damaged", f"{path} has a line of the other log")
            hashed.update(json.dumps({**line, "time": None}, sort_keys=True).encode())
    said = {name: value for name, value in result.items() if name not in _LEFT_OUT}
    hashed.update(json.dumps(said, sort_keys=True).encode())
    return hashed.hexdigest()
