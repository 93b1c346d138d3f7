"""Where the files of a data set come from: a folder of the user's, or a checked download."""

import concurrent.futures
import contextlib
import dataclasses
import errno
import gzip
import hashlib
import http.client
import io
import lzma
import os
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from dl.core.errors import UserError, one_line
from dl.data.readers.given import check_plain
from dl.platform import cache_folder, host_memory, screen

_BLOCK = 1 << 20
_LITTLE = 1 << 28  # bytes that every machine can spare
_ODD = (EOFError, OSError, ValueError, NotImplementedError, RuntimeError)  # of archives' headers
_chosen: Path | None = None  # by use_data_folder
_reopened: Path | None = None  # by reopen_data_folder


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
      name: its name in the set's folder; the same name with ``.gz`` added or taken away serves too.
      urls: official places to download it from, in order of preference; may be empty.
      sha256: known digests (several where copies of equal worth are about). A download must match
        one of them; a file the user put there need not.
      size: bytes of the download, if known.
    """

    name: str
    urls: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    size: int | None = None


def use_data_folder(folder: str | os.PathLike | None) -> None:
    """Have this process take data sets from ``folder``, which holds one folder a data set, from here on.

    Args:
      folder: None goes back to ``$DL_DATA_DIR`` or the user's cache.
    """
    global _chosen, _reopened
    _chosen, _reopened = None if folder is None else Path(folder).expanduser().absolute(), None


def reopen_data_folder(folder: str | os.PathLike | None) -> None:
    """The same for a run that is reopened: where no folder is chosen, and this one is still there."""
    global _reopened
    path = None if folder is None else Path(folder).expanduser()
    _reopened = path if path is not None and path.is_dir() else None


@contextlib.contextmanager
def same_data_folder() -> Iterator[None]:
    """Whichever folder is chosen or reopened inside, afterwards it is as before."""
    global _chosen, _reopened
    before = _chosen, _reopened
    try:
        yield
    finally:
        _chosen, _reopened = before


def named_data_folder() -> Path | None:
    """The folder that was chosen, or else reopened; None where neither was."""
    return _chosen or _reopened


def data_folder(data_dir: str | os.PathLike | None = None) -> Path:
    """The folder that holds one folder per data set: ``data_dir``, else the one chosen for this process,
    ``$DL_DATA_DIR`` or the user's cache."""
    default = os.environ.get("DL_DATA_DIR") or cache_folder() / "data"
    return Path(data_dir or named_data_folder() or default).expanduser()


def find(folder: Path, file: File) -> Path | None:
    """The file in ``folder``, packed or not, or None."""
    plain = file.name.removesuffix(".gz")
    for name in (file.name, plain, plain + ".gz"):
        if (folder / name).is_file():
            return folder / name
    return None


def fetch(folder: Path, files: Iterable[File], title: str) -> dict[str, Path]:
    """Paths of all ``files`` by name; what is not in ``folder`` yet is downloaded into it."""
    paths, missing = {}, []
    files = tuple(files)
    for file in files:
        path = find(folder, file)
        if path is None and not file.urls:
            missing.append(file)
        elif path is not None:
            paths[file.name] = path
    if missing:
        raise UserError(
            "data-missing",
            f"{title} is not here and has no official download: {_place(folder, files)}",
        )
    for file in files:
        if file.name not in paths:
            try:
                paths[file.name] = download(file, folder)
            except UserError as error:
                raise UserError(
                    error.code, f"{error}. Or, by hand: {_place(folder, files)}"
                ) from None
    return paths


def _place(folder: Path, files: Iterable[File]) -> str:
    names = ", ".join(file.name for file in files)
    return f"put {names} into {folder} (or name the folder above it with --data-dir or DL_DATA_DIR)"


def download(file: File, folder: Path) -> Path:
    """Download ``file`` into ``folder``, check it, and only then give it its name.

    Raises UserError where no place delivers, or where size or digest are not the known ones; what
    was received is deleted then, so a folder never holds half a file.
    """
    target = folder / file.name
    part = folder / f".{file.name}.{os.getpid()}.part"  # two processes never share one
    problems = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for url in file.urls:
            opened = False
            try:
                with open(part, "wb") as out:
                    opened = True
                    found = _receive(url, out, file)
            except (OSError, http.client.HTTPException, ValueError) as error:
                if not opened or getattr(error, "errno", None) == errno.ENOSPC:
                    raise  # the trouble is here, and no other place helps
                problems.append(f"{url}: {getattr(error, 'reason', None) or error}")
                continue
            if file.sha256 and found not in file.sha256:
                problems.append(f"{url}: the checksum {found[:12]}... is not the known one")
                continue
            os.replace(part, target)
            return target
    except OSError as error:
        raise UserError("file-write", f"cannot write {target}: {error.strerror or error}") from None
    finally:
        _remove(part)
    raise UserError("download-failed", f"could not download {file.name} ({'; '.join(problems)})")


def _remove(part: Path) -> None:
    with contextlib.suppress(OSError):
        part.unlink()


def _receive(url: str, out: BinaryIO, file: File) -> str:
    """Stream ``url`` into ``out`` and return its SHA-256; raises ValueError on a wrong length."""
    hasher, received = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "dl"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        promised = answer.headers.get("Content-Length")
        total = file.size or (int(promised) if promised else None)
        blocks = iter(lambda: answer.read(_BLOCK), b"")
        for block in progress(blocks, f"downloading {file.name}", total, weight=len):
            received += len(block)
            if file.size is not None and received > file.size:
                raise ValueError(f"longer than the {file.size} bytes expected")
            hasher.update(block)
            out.write(block)
        out.flush()
        os.fsync(out.fileno())
    if total is not None and received != total:
        raise ValueError(f"broke off after {received} of {total} bytes")
    return hasher.hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(paths: Sequence[str | os.PathLike]) -> str:
    """SHA-256 (hex) of the contents of files, one after the other, whatever they are called.

    Every byte is read, by several threads. The result is kept in the user's cache under the paths,
    sizes and times of change, so that the next run only asks for those. It is not kept while a file
    is younger than two seconds, since a change within one tick of the file system's clock leaves the
    times as they are.
    """
    known = hashlib.sha256()
    newest = 0
    try:
        for path in paths:
            stat = os.stat(path)
            newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
            about = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
            known.update(os.fsencode(os.path.abspath(path)) + f"\0{about}\0".encode())
        kept = cache_folder() / "digests" / known.hexdigest()
        settled = newest < time.time_ns() - 2 * 10**9
        if settled and kept.is_file() and len(found := kept.read_text("ascii")) == 64:
            return found
        whole = hashlib.sha256()
        groups = [paths[start : start + 64] for start in range(0, len(paths), 64)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            digests = pool.map(lambda group: [sha256(Path(path)) for path in group], groups)
            for group in progress(digests, "reading files for their digest", len(groups)):
                for digest in group:
                    whole.update(digest.encode())
    except OSError as error:
        raise UserError(
            "file-read", f"cannot read {error.filename}: {error.strerror or error}"
        ) from None
    if settled:
        with contextlib.suppress(UserError):  # a cache that cannot be written costs time alone
            write_whole(kept, lambda file: file.write(whole.hexdigest().encode()))
    return whole.hexdigest()


def read(path: Path) -> bytes:
    """The bytes of a file, unpacked if it is gzipped."""
    check_plain(path)
    try:
        data = path.read_bytes()
        if data[:2] != b"\x1f\x8b":
            return data
        with gzip.open(io.BytesIO(data), "rb") as file:
            unpacked = file.read(most_unpacked(len(data)) + 1)
        check_unpacked(path, len(unpacked))
        return unpacked
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, error) from None


def most_unpacked(packed: int, at_once: bool = True) -> int:
    """Bytes that a file of ``packed`` bytes may unfold to: 200 times as many, as no table, text or picture does
    that is not all the same, and half of the memory where it does so ``at_once``; small ones a little more."""
    return max(_LITTLE, min(200 * packed, host_memory() // 2) if at_once else 200 * packed)


def check_unpacked(path: Path, size: int, packed: int | None = None, at_once: bool = True) -> None:
    """Raise UserError where so many bytes are more than the packed file may unfold to; ``packed`` is its size."""
    packed = path.stat().st_size if packed is None else packed
    if size > (most := most_unpacked(packed, at_once)):
        raise UserError(
            "unpacked-too-large",
            f"{path} has {packed:,} bytes and unpacks to more than {most:,}, as files do that are "
            "made to fill the memory: if you trust it, unpack it yourself and name what came of it",
        )


def members(path: Path, *suffixes: str) -> Iterator[tuple[str, bytes]]:
    """``(name, bytes)`` of an archive's plain files whose names end in one of ``suffixes``.

    Read in memory and never extracted, so no member can write anywhere.
    """
    size = 0
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                chosen = [i for i in archive.infolist() if i.filename.endswith(suffixes)]
                check_unpacked(path, sum(info.file_size for info in chosen))
                for info in chosen:
                    if not info.is_dir():
                        yield info.filename, archive.read(info)
            return
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(suffixes):
                    check_unpacked(path, size := size + member.size)
                    file = archive.extractfile(member)
                    assert file is not None  # isfile() says so
                    yield member.name, file.read()
    except UserError:
        raise
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, *_ODD) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: object) -> UserError:
    """The error for a file that cannot be read as what it should be."""
    return UserError(
        "file-damaged",
        f"{path} is damaged or not what it should be ({one_line(error)}): delete or replace it",
    )


def write_whole(path: Path, write) -> None:
    """Give ``path`` its content through ``write(file)`` at once or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        with open(part, "xb") as file:  # through no link
            write(file)
        os.replace(part, path)
    except OSError as error:
        raise UserError("file-write", f"cannot write {path}: {error.strerror or error}") from None
    finally:
        _remove(part)


def tried(function: Callable, items: Sequence, what: str) -> Iterator[Any]:
    """``function(item)`` of all items in order, computed by several threads, or the UserError that it raises."""

    def result(item):
        try:
            return function(item)
        except UserError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from progress(pool.map(result, items), what, len(items))


def readable(
    function: Callable, items: Sequence, what: str
) -> tuple[list[int], list[Any], list[UserError]]:
    """``(places, results, errors)`` of :func:`tried`: of those items that can be read, and of the others."""
    found = list(enumerate(tried(function, items, what)))
    good = [each for each in found if not isinstance(each[1], UserError)]
    errors = [each for _, each in found if isinstance(each, UserError)]
    return [place for place, _ in good], [each for _, each in good], errors


def for_each(function: Callable, items: Sequence, what: str) -> Iterator[tuple[int, Any]]:
    """``(place, result)`` of :func:`tried` as they come.

    Raises:
      UserError: at the end, the first that was met, with the number of those that came after it.
    """
    failed = []
    for place, result in enumerate(tried(function, items, what)):
        if isinstance(result, UserError):
            failed.append(result)
        else:
            yield place, result
    if failed:
        more = (
            f" ({len(failed) - 1} more cannot be read, such as: {failed[-1]})" if failed[1:] else ""
        )
        raise UserError(failed[0].code, f"{failed[0]}{more}")


def progress(items: Iterable, what: str, total: int | None = None, weight=lambda item: 1):
    """``items`` again, with a bar and the time left on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=screen(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task, weight(item))
