"""Runs in an object store, as ``s3://bucket/runs`` and ``gs://bucket/runs`` name them.

A store has whole objects and no more: nothing can be added to one, renamed or locked. So a run works in a
folder of this machine, with all the care that :mod:`dl.runs.files` takes, and the store is handed its files:
records as they are written, the lines of its logs before a checkpoint counts, then the checkpoint's files, and
last the object ``STEP.whole`` that lists them, without which there is no checkpoint. Whoever goes on, or
reads, begins with what the store has: what lies in the working folder is not believed.
"""

import atexit
import contextlib
import functools
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from dl.core.errors import UserError, need, one_line
from dl.platform import cache_folder

# What reads a kind of store, and the extra that brings it.
STORES = ("s3", "gs")
OFTEN = 30.0  # seconds between two looks that a watcher is given into the lines of a run at work
PAUSES = (1, 5, 25, 60)  # seconds, between tries to reach a store
SMALL = ("config.json", "sweep.json", "result.json")  # what a run is found by
WRITER = ".writer"
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+([^/].*?)/*")  # of "s3://" pathlib keeps one slash
STEP = re.compile(r"(?:.*/)?checkpoints/(?:[^/]+/)?[0-9]+(?:/.*|\.whole)")
_KEYS = re.compile(r"Credential|RefreshError|ProfileNotFound|Access Key|signature|token", re.I)

guards: dict[Path, Callable[[], None]] = {}  # what raises where a run is another process's by now
_roots: list[Path] = []  # of folders on this machine, laid out as ROOT/SCHEME/BUCKET/...
_theirs: dict[Path, tuple[str, ...]] = {}  # what the store told of the object that a file is from
_ours: dict[Path, tuple[int, int]] = {}  # time and size of each file when the store had it
_pushed: dict[Path, float] = {}


def url(path: str | os.PathLike[str]) -> str | None:
    """What a store calls ``path``: one that names a store, or lies in this machine's copy of one; else None."""
    if found := _URL.fullmatch(os.fspath(path)):
        return f"{found[1]}://{found[2]}"
    for root in _roots:
        if Path(path).is_relative_to(root) and len(Path(path).relative_to(root).parts) > 1:
            scheme, *rest = Path(path).relative_to(root).parts
            return f"{scheme}://{'/'.join(rest)}"
    return None


def named(text: str) -> str:
    """``text`` with copies and working folders called as the store calls them."""
    for root in _roots:
        text = re.sub(re.escape(str(root)) + r"[/\\](\w+)[/\\]", r"\1://", text)
    return text


@contextlib.contextmanager
def naming() -> Iterator[None]:
    """A UserError in it calls what lies in a store as the store does."""
    try:
        yield
    except UserError as error:
        error.message = named(error.message)
        raise


def check(path: Path) -> None:
    """Raise UserError where ``path`` names a store that ``dl`` does not know, or whose package is missing."""
    if found := _URL.fullmatch(os.fspath(path)):
        _filesystem(found[1])


def working(path: Path) -> Path:
    """The folder in which runs work that belong to ``path``: itself, but of a store one of this machine and
    process."""
    if not _URL.fullmatch(os.fspath(path)):
        return path
    import jax  # only here, for the processes of one machine

    root = (cache_folder() / "stores" / str(jax.process_index())).resolve()
    return _in(_root(root), path)


def _in(root: Path, path: str | os.PathLike[str]) -> Path:
    """Where what a store calls ``path`` lies in ``root``."""
    found = _URL.fullmatch(os.fspath(path))
    place = found and _within(root / found[1], found[2])
    if place is None:
        raise UserError(
            "path-characters", f"{path} names no folder of a store: leave out .. and //"
        )
    return place


def opened(path: str | os.PathLike[str], only: Collection[str] = ()) -> Path:
    """A folder that holds what ``path`` does, for readers: itself, but of a store a copy that this process makes,
    or brings up to date. A checkpoint's files come when they are asked for (see :func:`fill`).

    Args:
      only: names of files; all others are empty.
    """
    if not _URL.fullmatch(os.fspath(path)):
        return Path(path)
    place = _in(_copies(), path)
    shutil.rmtree(place, ignore_errors=True)
    fetch(place, only)
    return place


def seen(runs: Path, name: str | None, resume: bool) -> Path:
    """A folder that shows which runs ``runs`` holds, or what there is of the one of that ``name``: itself, but of
    a store a copy, in which all files are empty but :data:`SMALL` of what may be gone on with."""
    if not _URL.fullmatch(os.fspath(runs)):
        return runs
    one = isinstance(name, str) and name not in ("", "..") and Path(name).name == name
    opened(runs / name if name and one else runs, SMALL if name or resume else (WRITER,))
    return _in(_copies(), runs)


def refresh(place: Path) -> None:
    """Bring a copy that :func:`opened` made up to date."""
    if url(place) and place.is_relative_to(_copies()):
        fetch(place)


def fetch(place: Path, only: Collection[str] = ()) -> None:
    """Bring this machine's copy ``place`` up to date, ``only`` files of these names, where any are given."""
    address = url(place)
    if address is None:
        return
    store, key = at(address)
    with told(address):
        found = store.find(key, detail=True)
        wanted = []
        for name, about in found.items():
            file = _within(place, name[len(key) + 1 :])
            if file is None or file.name == WRITER:
                continue
            if STEP.fullmatch(name[len(key) + 1 :]):
                if file.suffix == ".whole":
                    file.with_suffix("").mkdir(parents=True, exist_ok=True)
                continue
            stamp = tuple(
                str(about.get(n)) for n in ("size", "ETag", "etag", "generation", "updated")
            )
            if _theirs.get(file) == stamp and file.exists():
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            if only and file.name not in only:
                file.touch()
                _ours[file] = _stamp(file)
                continue
            wanted.append((name, file, stamp))
        store.get([name for name, _, _ in wanted], [str(file) for _, file, _ in wanted])
    for _, file, stamp in wanted:
        _theirs[file], _ours[file] = stamp, _stamp(file)


def push(place: Path, every: float = 0.0) -> None:
    """Hand the store what is new in a folder of a copy, or a file; checkpoints apart, which are handed over by
    :func:`commit`. Of a folder outside it does nothing.

    Args:
      every: seconds that must have passed since the last time.
    """
    if url(place) is None:
        return
    root = next((each for each in guards if place.is_relative_to(each)), place)
    now = time.monotonic()
    if every and now - _pushed.get(root, -every) < every:
        return
    _pushed[root] = now
    new = _new(place)
    if new and place.is_dir():
        new = _new(root)  # of all the lanes of a sweep at once, which is many times as quick
    try:
        _hand_over(new, place, patient=not every)
    except UserError as error:
        if not every or error.code != "store-unreachable":  # else the lines can wait
            raise


def _new(place: Path) -> list[Path]:
    """The files of a folder, or the one that ``place`` is, that the store has not, or not as they are."""
    files = [place] if place.is_file() else []
    for folder, below, names in os.walk(place):
        below[:] = [name for name in below if name != "checkpoints"]
        files += [Path(folder, name) for name in names if name != WRITER and name[-5:] != ".part"]
    files = [file for file in files if file.is_file() and not file.is_symlink()]
    return [file for file in files if _ours.get(file) != _stamp(file)]


def commit(step: Path) -> None:
    """Hand the store the whole checkpoint in the folder ``step``; when this returns, it counts there."""
    address = url(step)
    if address is None:
        return
    files = [file for file in step.rglob("*") if file.is_file()]
    _hand_over(files, step)
    listed = {file.relative_to(step).as_posix(): file.stat().st_size for file in files}
    store, key = at(address)
    _insist(step, lambda: store.pipe_file(f"{key}.whole", json.dumps(listed).encode()))


def fill(step: Path) -> None:
    """Fetch the files of a checkpoint that :func:`fetch` made an empty folder for.

    Raises:
      ValueError: one of them is another than was saved. FileNotFoundError: the checkpoint is gone.
    """
    address = url(step)
    if address is None or any(step.glob("*")):
        return
    store, key = at(address)

    def listing() -> bytes | None:
        with told(address), contextlib.suppress(FileNotFoundError):
            return bytes(store.cat_file(f"{key}.whole"))
        return None

    listed = listing()
    try:
        sizes = dict(json.loads(listed or b"{}"))
        files = {name: _within(step, name) for name in sizes}
        good = [(f"{key}/{name}", str(file)) for name, file in files.items() if file]
        with told(address), contextlib.suppress(FileNotFoundError):
            store.get([name for name, _ in good], [file for _, file in good])
        there = {n: f.stat().st_size for n, f in files.items() if f and f.is_file()}
        odd = next((name for name in sizes if there.get(name) != sizes[name]), "")
    except (ValueError, TypeError, AttributeError, RecursionError):  # a damaged list
        odd = f"{step.name}.whole"
    if listed is not None and not odd:
        return
    shutil.rmtree(step, ignore_errors=True)
    if listing() is None:
        raise FileNotFoundError(f"{address} is gone")
    raise ValueError(f"{odd} is not what was saved")


def has_writer(place: Path) -> bool:
    """Whether a process gave a sign of itself within two minutes that it writes what ``place`` is a copy of."""
    store, key = at(f"{url(place)}/{WRITER}")
    try:
        return bool(time.time() - store.modified(key).timestamp() < 120)
    except (OSError, NotImplementedError):  # none, or a store that tells no times
        return False


def remove(step: Path) -> None:
    """Take a checkpoint, a record or a whole run out of the store."""
    address = url(step)
    if address is None:
        return
    store, key = at(address)

    def take() -> None:
        for name in (f"{key}.whole", key):  # each may be missing
            with contextlib.suppress(FileNotFoundError):
                store.rm(name, recursive=True)

    _insist(step, take)


def _root(place: Path) -> Path:
    if place not in _roots:
        _roots.append(place)
    return place


@functools.cache
def _copies() -> Path:
    place = Path(tempfile.mkdtemp(prefix="dl-store-")).resolve()
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return _root(place)


@functools.cache
def _filesystem(scheme: str) -> Any:
    if scheme == "file":
        raise UserError(
            "unknown", "file:// is this machine: give the folder's path alone, such as /runs"
        )
    if scheme not in STORES:
        known = ", ".join(f"{name}://" for name in sorted(STORES))
        raise UserError("unknown", f"{scheme}:// is no kind of store: known are {known}")
    if scheme == "s3":
        library = need("s3fs", extra="s3", why="s3://")
    else:
        library = need("gcsfs", extra="gcs", why="gs://")
    import fsspec

    logging.getLogger(library.__name__).setLevel(logging.CRITICAL)  # what matters is raised
    return fsspec.filesystem(scheme, use_listings_cache=False)  # others write there too


def at(address: str) -> tuple[Any, str]:
    """A store, and the key in it."""
    scheme, _, key = address.partition("://")
    return _filesystem(scheme), key


def _within(place: Path, name: str) -> Path | None:
    """The file of that ``name`` in ``place``; None for what would lie elsewhere."""
    parts = name.split("/")
    odd = (
        {"", ".", ".."} & set(parts)
        or any(c in name for c in "\\\0")
        or PurePosixPath(name).is_absolute()
    )
    return None if odd else place.joinpath(*parts)


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_mtime_ns, found.st_size


def _hand_over(files: list[Path], place: Path, patient: bool = True) -> None:
    if not files:
        return
    stamps = {file: _stamp(file) for file in files}
    addresses = [url(file) or "" for file in files]
    store, keys = at(addresses[0])[0], [at(address)[1] for address in addresses]
    _insist(place, lambda: store.put([str(file) for file in files], keys), patient)
    _ours.update(stamps)


def _insist(place: Path, write: Callable[[], Any], patient: bool = True) -> None:
    """Write to the store whose ``place`` is, unless its run is another process's by now; the ``patient`` try
    again after pauses, as long as the store cannot be reached."""
    for pause in (*(PAUSES if patient else ()), None):
        try:
            for root, check_held in guards.items():
                if place.is_relative_to(root):
                    check_held()
            with told(url(place) or ""):
                write()
                return
        except UserError as error:
            if pause is None or error.code != "store-unreachable":
                raise
        time.sleep(pause)


@contextlib.contextmanager
def told(address: str) -> Iterator[None]:
    """What a store says against it, as a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        bucket = "/".join(address.split("/")[:3])
        raise _refusal(error, bucket, address, one_line(error)) from None


def _refusal(error: Exception, bucket: str, address: str, said: str) -> UserError:
    if _KEYS.search(f"{type(error).__name__} {said}"):
        return UserError(
            "store-credentials",
            f"{bucket} does not know you ({said}): give credentials as AWS_PROFILE or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY (s3; elsewhere than at Amazon with AWS_ENDPOINT_URL), or by "
            "GOOGLE_APPLICATION_CREDENTIALS or `gcloud auth application-default login` (gs)",
        )
    if isinstance(error, FileNotFoundError):
        return UserError(
            "store-missing",
            f"there is no bucket {bucket} ({said}): make it, or name one that is there",
        )
    if isinstance(error, PermissionError):
        return UserError(
            "store-refused",
            f"{address} is refused to you ({said}): ask for the right to list, read, write and delete there",
        )
    return UserError(
        "store-unreachable",
        f"{address} cannot be reached ({said}): mend that, then go on with --resume",
    )
