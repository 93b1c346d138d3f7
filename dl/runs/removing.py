"""Runs and sweeps taken away, or put into an archive: whole or not at all, and never what others need."""

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from dl.core.errors import NonFiniteError, UserError
from dl.runs import store
from dl.runs.files import SAFE, sync, sync_tree
from dl.runs.folder import RunFolder
from dl.runs.readers import read_object
from dl.runs.records import read_run, runs_within

SUMS = "SHA256SUMS"  # as `sha256sum -c` reads it
PACKED = (".tar.gz", ".tgz")


def chosen(names: Sequence[str | Path], runs: Path) -> list[Path]:
    """The folders of runs and sweeps that are called so, as paths or in the folder ``runs``; of those in a store
    this machine's working folders.

    Raises:
      UserError: there is none of that name, or it is a link, or a lane.
    """
    found: list[Path] = []
    for name in names:
        for path in (Path(name), runs / name):
            seen = store.opened(path, store.SMALL)
            if (seen / "config.json").exists() or (seen / "sweep.json").exists():
                break
        else:
            raise UserError("not-a-run", f"there is no run or sweep {name}, here or in {runs}/")
        if path.is_symlink():
            raise UserError("record-damaged", f"{path} is a link: name the folder it leads to")
        if path.parent.name == "lanes":
            raise UserError(
                "run-needed",
                f"{path} is a lane, which shares its checkpoints with the others: name {path.parent.parent}",
            )
        found.append(store.working(path))
    return list(dict.fromkeys(found))


def check_unneeded(places: Sequence[Path]) -> None:
    """Raise UserError where a run beside the ``places``, and not among them, was branched off one of them or
    begins with its weights."""
    gone = [_named(place) for place in places]
    for folder in dict.fromkeys(store.url(p.parent) or str(p.parent) for p in places):
        for path in runs_within(store.opened(folder, ("config.json", "run.lock.json"))):
            if _lies_in(_named(path), gone):
                continue
            with contextlib.suppress(UserError, OSError):  # a damaged one needs nothing
                if needed := next((n for n in _needs(path) if _lies_in(_named(n), gone)), None):
                    break
        else:
            continue
        raise UserError(
            "run-needed",
            f"{path} was begun from {needed}, and cannot be replayed without it: name both, or neither",
        )


def _needs(path: Path) -> Iterator[str | Path]:
    """What the run in ``path`` may have been begun from: its ancestor, and what its config names."""
    ancestor = (read_object(path / "run.lock.json") or {}).get("ancestor")
    if isinstance(ancestor, dict) and isinstance(ancestor.get("run"), str):
        yield ancestor["run"]
    above = path.parents[2] if path.parent.name == "lanes" else path.parent
    for name, value in read_run(path).config.items():
        if not isinstance(value, str) or "\0" in value or not 0 < len(value) < 1000:
            continue
        if name == "start" or {"/", os.sep} & set(value):
            yield value
            yield above.parent / value  # as it was named where runs/ lies


def _named(path: str | Path) -> str:
    return store.url(path) or str(Path(path).resolve())


def _lies_in(name: str, folders: Sequence[str]) -> bool:
    return any(name == f or name.startswith((f + "/", f + os.sep)) for f in folders)


@contextlib.contextmanager
def _held(places: Sequence[Path]) -> Iterator[None]:
    """Within, no other process writes there. Raises UserError where one does."""
    with contextlib.ExitStack() as stack:
        for place in places:
            in_store = bool(store.url(place))  # its folder here may never have been made
            stack.enter_context(RunFolder(place).held(new=in_store))
        yield


def remove(places: Sequence[Path]) -> None:
    """Take runs and sweeps away, each at once.

    Raises:
      UserError: one is in training, or others need it, or another process has taken it; then nothing is taken.
    """
    check_unneeded(places)
    with _held(places):
        _take(places)


def _take(places: Sequence[Path]) -> None:
    for place in places:
        store.remove(place)
        for left in place.parent.glob(".*.removing"):  # by a kill
            _delete(left)
        hidden = place.with_name(f".{place.name}.removing")
        place.rename(hidden)
        sync(place.parent)
        _delete(hidden)


def _delete(folder: Path) -> None:
    """Delete a folder that another process may be deleting too; of a link or file of its name that alone."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink(missing_ok=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)  # where something is left, this says why


@contextlib.contextmanager
def unless_begun(folder: RunFolder, new: bool) -> Iterator[None]:
    """Take a ``new`` run or sweep away again, so that its name is free, where an error ends it before a line or a
    checkpoint of it is kept: a tracker that is away, a program that does not fit. One whose loss is not finite
    stays, to be looked at. The folder must be held."""
    try:
        yield
    except NonFiniteError:
        raise
    except Exception:
        if new and folder.writes and not _has_begun(folder.path):
            with contextlib.suppress(OSError, UserError):  # the error itself matters more
                _take([folder.path])
        raise


def _has_begun(place: Path) -> bool:
    lines = any(file.stat().st_size for file in place.rglob("metrics.jsonl"))
    return lines or any(step.name.isdigit() for step in place.glob("**/checkpoints/**/"))


def archive(places: Sequence[Path], to: Path, keep: bool = False) -> list[Path]:
    """Put runs and sweeps into a file ``to`` (.tar.gz), or as folders into a folder; then take them away.

    Each brings a file ``SHA256SUMS`` of all its files. What was written is read back and compared before it
    gets its name, and before anything is taken.

    Args:
      keep: take nothing away.

    Returns:
      What was written.

    Raises:
      UserError: as :func:`remove`; or what is to be written is there already.
    """
    packed = to.name.endswith(PACKED)
    made = [to] if packed else [to / place.name for place in places]
    if store.url(to):
        raise UserError("option-misplaced", f"--to {to}: name a file or folder of this machine")
    if not packed and to.suffix in (".zip", ".tar", ".gz", ".xz", ".bz2", ".zst", ".7z"):
        raise UserError("file-ending", f"--to {to}: give a name that ends in .tar.gz, or a folder")
    if len({place.name for place in places}) < len(places):
        raise UserError("name-taken", "two of these runs have one name: archive them apart")
    if _lies_in(_named(to), [_named(place) for place in places]):
        raise UserError("file-write", f"{to} lies in what is to be archived: name another place")
    if there := next((file for file in made if os.path.lexists(file)), None):
        raise UserError("file-exists", f"{there} is there already: name another, or take it away")
    if not keep:
        check_unneeded(places)
    with _held(places):
        for place in places:
            for step in place.rglob("checkpoints/**/"):
                if step.name.isdigit() and store.url(step):
                    store.fill(step)
        to.parent.mkdir(parents=True, exist_ok=True)
        parts = [file.with_name(f".{file.name}.part") for file in made]
        try:
            for part in parts:  # by a kill, or a link that leads elsewhere
                _delete(part)
            if packed:
                _pack(places, parts[0])
                sync(parts[0])
            else:
                for place, part in zip(places, parts, strict=True):
                    _copy(place, part)
                    sync_tree(part)
            for part, file in zip(parts, made, strict=True):
                part.rename(file)
                sync(file.parent)
        finally:
            for part in parts:
                _delete(part)
        if not keep:
            _take(places)
    return made


def _listed(place: Path) -> Iterator[tuple[str, Path]]:
    """The folders and plain files of a run, by their names in it."""
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise UserError("record-damaged", f"{path} is a link, or no plain file: take it out")
        if name not in (".writer", SUMS):
            yield name, path


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with open(os.open(path, os.O_RDONLY | SAFE), "rb") as file:
        yield file


def _digest(file: Any) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _pack(places: Sequence[Path], part: Path) -> None:
    sums: dict[str, str] = {}
    with tarfile.open(part, "x:gz", compresslevel=6) as tar:
        for place in places:
            own = {}
            for name, path in [("", place), *_listed(place)]:
                info = tar.gettarinfo(path, f"{place.name}/{name}".rstrip("/"))
                if path.is_dir():
                    tar.addfile(info)
                    continue
                with _opened(path) as file:
                    own[name] = _digest(file)
                    file.seek(0)
                    tar.addfile(info, file)
            text = _lines(own)
            info = tarfile.TarInfo(f"{place.name}/{SUMS}")
            info.size, info.mode = len(text), 0o644
            tar.addfile(info, io.BytesIO(text))
            sums |= {f"{place.name}/{name}": digest for name, digest in own.items()}
    with tarfile.open(part) as tar:
        found = {m.name: _digest(tar.extractfile(m)) for m in tar if m.isfile()}
    _compare(sums, {n: d for n, d in found.items() if n in sums}, part)


def _copy(place: Path, part: Path) -> None:
    part.mkdir(parents=True)
    sums: dict[str, str] = {}
    for name, path in _listed(place):
        if path.is_dir():
            (part / name).mkdir()
            continue
        with _opened(path) as file:
            sums[name] = _digest(file)
        shutil.copy2(path, part / name, follow_symlinks=False)
    found = {}
    for name in sums:
        with _opened(part / name) as file:
            found[name] = _digest(file)
    _compare(sums, found, part)
    (part / SUMS).write_bytes(_lines(sums))


def _lines(sums: dict[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()


def _compare(wrote: dict[str, str], found: dict[str, str], part: Path) -> None:
    if odd := next((name for name in wrote if found.get(name) != wrote[name]), None):
        raise UserError(
            "file-damaged", f"{odd} came out of {part} otherwise than it went in: see to the disk"
        )
