"""A run's folder on disk: what is written there survives a kill at any instant.

``config.json``, ``run.lock.json`` and ``result.json`` are replaced whole or not at all;
``metrics.jsonl`` and ``digests.jsonl`` only grow, one JSON object a line, and are cut back to the
checkpoint that a resumed run starts from. ``config.json`` is written last of what a run is born with:
without it there is no run yet, and the name is free.
"""

import contextlib
import enum
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dl import interrupts
from dl.core.errors import UserError
from dl.runs import files, store
from dl.runs.functions import called
from dl.runs.readers import read_object, read_records
from dl.runs.writer import written

try:
    import fcntl
except ImportError:  # Windows: no guard against two processes in one folder
    fcntl = None  # type: ignore[assignment]


def to_json(value: Any) -> Any:
    """``value`` in strict JSON's types, equal for equal values in every process: a non-finite number becomes the
    string 'nan' or 'inf', a choice of an enumeration its name, a set a sorted list, a function its name
    (:func:`dl.runs.functions.called`)."""
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(map(to_json, value), key=repr)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist") and not isinstance(value, type):  # NumPy and JAX arrays and scalars
        return to_json(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    return called(value) if callable(value) else repr(value)


def write_json(path: Path, value: Any) -> None:
    """Replace the file at ``path`` in one atomic move."""
    files.replace(path, (json.dumps(to_json(value), indent=2) + "\n").encode())


class Document(dict[str, Any]):
    """What a JSON file holds; an entry that is missing says so in words."""

    def __init__(self, path: Path, values: dict[str, Any]):
        super().__init__(values)
        self.path = path

    def __missing__(self, name: str) -> Any:
        raise UserError("record-damaged", f"{self.path} has no {name!r}: restore it from a copy")


def read_json(path: Path) -> Document:
    if path.parent.is_file():
        raise UserError("not-a-run", f"{path.parent} is a file, not the folder of a run")
    found = read_object(path)
    if found is None:
        inside = path.parent / "lanes"
        told = f"is {path.parent} the folder of a run?"
        if inside.is_dir():
            told = f"{path.parent} is a sweep, whose runs lie in {inside}/"
        raise UserError("not-a-run", f"{path} is missing: {told}")
    return Document(path, found)


class RunFolder:
    """Paths and files of one run; with ``writes=False`` one that another process writes."""

    def __init__(self, path: str | os.PathLike[str], writes: bool = True):
        self.path, self.writes, self._born = Path(path), writes, False
        self.config = self.path / "config.json"
        self.lock = self.path / "run.lock.json"
        self.metrics = self.path / "metrics.jsonl"
        self.digests = self.path / "digests.jsonl"
        self.baselines = self.path / "baselines.json"
        self.result = self.path / "result.json"
        self.failed = self.path / "failed.json"
        self.checkpoints = self.path / "checkpoints"

    @property
    def name(self) -> str:
        return self.path.name

    def exists(self) -> bool:
        return self.config.exists()

    def finished(self) -> bool:
        return self.result.exists()

    def reopen(self) -> None:
        """Have a finished run be unfinished, on disk: it goes on, and writes its result again."""
        self.result.unlink(missing_ok=True)
        files.sync(self.path)
        store.remove(self.result)

    def saved(self) -> int:
        """The step of the newest checkpoint, whole or not; -1 where there is none."""
        return newest_step(self.checkpoints)

    def _so_far(self) -> str:
        """What is there of a run or sweep, in words."""
        if self.finished():
            return f"{self.path} is finished, and its result written"
        swept = (self.path / "sweep.json").exists()
        done = "keeps what is done" if swept else "has no step yet"
        if (step := self.saved()) >= 0 and not swept:
            done = f"is saved up to step {step:,}"
        return f"{self.path} {done}; --name {self.name} --resume goes on"

    def append(self, path: Path, record: dict[str, Any]) -> None:
        """Add one line to ``metrics`` or ``digests``."""
        if not self.writes:
            return
        with self.told(path), files.opened_to_append(path) as file:
            file.write((json.dumps(to_json(record)) + "\n").encode())
        store.push(self.path, every=store.OFTEN)

    def sync(self) -> None:
        """Force the appended lines to disk, and into the store, so that no checkpoint is ahead of its metrics."""
        for path in (self.metrics, self.digests, self.path) if self.writes else ():
            if path == self.path or path.exists():
                with self.told(path):
                    files.sync(path)
        if self.writes:
            store.push(self.path)

    @contextlib.contextmanager
    def told(self, path: Path) -> Iterator[None]:
        """What the system says against writing to ``path``, as a UserError that is true of a run at work; and
        nothing is written where the folder is another now."""
        self._check_there()
        try:
            yield
        except OSError as error:
            said = (
                f"{path} cannot be written ({error.strerror}): mend that, then go on with --resume"
            )
            self._check_there()
            raise UserError("file-write", said) from None

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Keep in ``failed.json`` what ended a run that is not at its end; one that goes on empties it."""
        try:
            if self.writes and self.failed.exists():
                write_json(self.failed, {})
            yield
        except Exception as error:
            if self.writes and self.config.exists() and interrupts.behind(error) is None:
                with contextlib.suppress(OSError, UserError):  # the error itself matters more
                    code = getattr(error, "code", type(error).__name__)
                    write_json(self.failed, {"code": code, "said": files.printable(error)[:500]})
            raise

    def _check_there(self) -> None:
        """Raise UserError where the folder is there no more. The checkpoints' library may have made another of
        its name, without a config."""
        self._born = self._born or self.config.exists()
        if self._born and not self.config.exists():
            raise files.gone(self.path)

    def records(self, path: Path | None = None) -> Iterator[dict[str, Any]]:
        """The lines of ``metrics`` (or of ``path``); a last line cut short by a kill is left out."""
        return read_records(path or self.metrics)

    def truncate(self, step: int) -> None:
        """Forget what was logged after ``step``: a resumed run logs it again."""
        for path in (self.metrics, self.digests):
            if not (self.writes and path.exists()):
                continue
            kept = [r for r in self.records(path) if r["step"] <= step and r.get("event") != "test"]
            with self.told(path):
                files.replace(path, "".join(json.dumps(r) + "\n" for r in kept).encode())

    def forget_state(self, path: Path, step: int) -> None:
        """Forget what ``metrics`` or ``digests`` says of the state at ``step``: it is written again."""
        own = ("checkpoint", step)
        kept = (r for r in self.records(path) if (r.get("event", "checkpoint"), r["step"]) != own)
        with self.told(path):
            files.replace(path, "".join(json.dumps(r) + "\n" for r in kept).encode())

    @contextlib.contextmanager
    def held(self, new: bool = True) -> Iterator[None]:
        """Keep the processes of other runs from writing into this folder; one that may be ``new`` is made."""
        if not self.writes:
            store.fetch(self.path)
            yield
            store.fetch(self.path)
            return
        files.check_characters(self.path)
        made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            if new:
                self.path.mkdir(parents=True, exist_ok=True)
            for path in made if new else ():
                files.sync(path.parent)
            file = files.opened_to_append(self.path / ".writer")
        except OSError as error:
            if not new and isinstance(error, FileNotFoundError):
                raise self._gone() from None
            told = "make", ", or choose another --runs"
            what, other = told if new else ("write in", "")
            raise UserError(
                "file-write",
                f"cannot {what} the run folder {self.path} ({error.strerror}): mend that{other}",
            ) from None
        with file:
            try:
                lock_file(file)
            except BlockingIOError:
                raise UserError(
                    "run-in-use",
                    f"{self.path} is being written by another process: wait for it"
                    f"{', or choose another --name' if new else ''}",
                ) from None
            except OSError as error:  # some mounted drives know no locks
                print(
                    f"dl: {self.path} lies where no lock can be had ({error.strerror}): see to it "
                    "that no other process writes there",
                    file=sys.stderr,
                )
            try:
                if not os.path.samestat(os.fstat(file.fileno()), os.stat(self.path / ".writer")):
                    raise FileNotFoundError
            except FileNotFoundError:  # the folder went while its lock was waited for
                raise self._gone() from None
            with self.telling(), written(self.path):
                yield

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Within, what is stopped by a signal says what is there; not while steps run, which are saved."""
        try:
            yield
        except KeyboardInterrupt as stop:
            stop.add_note(self._so_far())
            raise

    def _gone(self) -> UserError:
        return UserError(
            "not-a-run", f"{self.path} is no longer there: another process took it away"
        )


def newest_step(checkpoints: Path) -> int:
    """The step of the newest checkpoint in that folder, whole or not; -1 where there is none."""
    return max((int(p.name) for p in checkpoints.glob("*") if p.name.isdigit()), default=-1)


def lock_file(file: Any) -> None:
    """Lock ``file``; tried again a moment later, since one that asks :func:`at_work` locks it too.

    Raises:
      BlockingIOError: another process has it; another OSError: no lock can be had there.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(0.05)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def at_work(place: Path) -> bool:
    """Whether a process writes the run or sweep in ``place``, as far as locks tell; it does not notice."""
    if store.url(place):
        return store.has_writer(place)
    with contextlib.suppress(OSError):
        handle = os.open(place / ".writer", os.O_RDONLY | files.SAFE)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
    return False


def called_after(script: Path | None, config: Any) -> str:
    """What a run is called after: its script, and the data where they are others than the script's own."""
    stem, data = script.stem if script else "run", getattr(config, "data", None)
    if not isinstance(data, str) or data in ("", getattr(type(config), "data", None)):
        return stem
    plain = (
        re.sub(r"^\w+:(?=\D)|:[\d.]+$", "", each) for each in data.split(",")
    )  # of a mixture all
    return "-".join([stem, *(Path(each.strip()).stem for each in plain)])


def new_name(runs: Path, stem: str) -> str:
    """A fresh run name: ``stem``, the date and time, and a number where that is taken."""
    stem = re.sub(r"[^\w.-]+", "-", stem)
    base = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    name, number = base, 2
    while (runs / name).exists():
        name, number = f"{base}-{number}", number + 1
    return name


BORN_WITH = {
    ".writer",
    "run.lock.json",
}  # what a kill before the config, or a sweep's spec, can leave


def check_name(runs: Path, name: str, what: str, resume: bool) -> None:
    """Raise UserError unless a run or a sweep (``what``) may be written to the folder ``name`` in ``runs``, or
    ``resume`` goes on there. It is asked before data are loaded."""
    odd = not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name
    if odd or files.on_its_way(name) or not name.isprintable() or len(os.fsencode(name)) > 200:
        raise UserError(
            "name-malformed",
            f"a {what}'s name is that of a folder in {runs}/, of at most 200 bytes, not {name!r:.100}",
        )
    place, record = runs / name, {"run": "config.json", "sweep": "sweep.json"}[what]
    there = (place / record).exists()
    if there and not resume:
        raise name_taken(place)
    left = BORN_WITH | {f"{file}.part" for file in (record, "run.lock.json")}
    if RunFolder(place).saved() < 0:  # of a run that was moved away while it saved one
        left |= {"checkpoints"}
    other = {"run": "sweep.json", "sweep": "config.json"}[what]
    if resume and not there and (place / other).exists():
        told = {
            "run": f"{place} is a sweep: go on with it by the --seeds, --folds or --sweep that it has",
            "sweep": f"{place} is one run, and no sweep: go on with it without --seeds, --folds and --sweep",
        }
        raise UserError("config-changed", f"{told[what]}, or choose another --name")
    if not there and place.is_dir() and {path.name for path in place.iterdir()} - left:
        raise UserError(
            "folder-not-empty", f"{place} is not the folder of a {what}: choose another --name"
        )


def name_taken(place: Path) -> UserError:
    return UserError(
        "name-taken",
        f"{place} is there already: go on with it by --resume, or choose another --name",
    )


def furthest_unfinished(runs: Path, config: Any) -> RunFolder | None:
    """The run in ``runs`` that has ``config`` and no result yet; of several, all on their way to the same
    bits, the one that has come furthest (no clock is asked, for clocks jump)."""
    found = []
    for path in runs.glob("*/config.json"):
        folder = RunFolder(path.parent)
        with contextlib.suppress(UserError):  # a damaged one is none that could go on
            if not folder.finished() and read_json(path) == to_json(config):
                found.append((folder.saved(), folder.name, folder))
    return max(found)[2] if found else None
