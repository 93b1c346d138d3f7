"""What recordings and transcripts share: which files are meant, at which rate and length they are read."""

import dataclasses
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dl.core.errors import UserError, bounded, need
from dl.data.batches.streams import FileRows
from dl.data.own.columns import (
    OwnCells,
    check_classes,
    column_lines,
    column_of_paths,
    group_of,
    joined,
    of_few_values,
    read_cells,
    split_column,
    taken,
    the_one,
    which_column,
)
from dl.data.own.found import Line, column_called, own_info, span
from dl.data.own.lines import lengths, prose
from dl.data.own.paths import SOUNDS, Named, ends, files_digest, files_under
from dl.data.own.pixels import too_large
from dl.data.readers.csv_text import plain
from dl.data.readers.files import readable
from dl.data.readers.frames import Frame, words
from dl.data.sets.recordings import pad_waveforms, read_wav
from dl.data.splits import Info

PATHS = (
    *("path", "file", "filename", "file_name", "audio_filepath", "audio", "wav", "recording"),
    *("clip", "sound", "audio_path", "file_path", "filepath", "fname", "id"),
)
_FAST = 16_000  # Hz that speech is usually read at
_TAIL = 1.5  # times the 99th percentile: beyond it the longest recordings pad all the others
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class OwnSounds(OwnCells):
    """Fields for the config of a script that takes recordings of the user's own."""

    path: str | None = None
    """your table's column of the recordings' paths; by default the one whose cells end as sounds do"""
    rate: int | None = None
    """samples a second that recordings are brought to; by default the most frequent, at most 16,000"""
    seconds: float | None = None
    """length of the longest recording; by default all, or 99 in 100 where a few are far longer"""
    stream: bool = False
    """read your recordings from disk as they are needed, even if all fit into memory"""


@dataclasses.dataclass(frozen=True)
class DecodeSound:
    """Read a row's ``file`` as ``waveform [samples]`` int16 at ``rate`` Hz, 0 after its ``length``."""

    rate: int
    samples: int

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        heard = read_sound(row["file"], self.rate, warn=False)
        rest = {name: value for name, value in row.items() if name not in ("file", "length")}
        return {n: v[0] for n, v in pad_waveforms([heard], self.samples).items()} | rest


@dataclasses.dataclass(frozen=True)
class Listed:
    """Files before they are read: ``[files]`` paths, what each is (a label, a text), parts and groups."""

    paths: list[Path]
    said: list[str]
    part: np.ndarray | None = None
    group: np.ndarray | None = None
    lines: tuple[Line, ...] = ()
    digests: dict[str, str] = dataclasses.field(default_factory=dict)

    def only(self, rows: np.ndarray, *lines: Line) -> "Listed":
        """Those files, and what to say of the others."""
        part, group = (None if a is None else a[rows] for a in (self.part, self.group))
        paths, said = ([column[row] for row in rows] for column in (self.paths, self.said))
        return Listed(paths, said, part, group, (*self.lines, *lines), self.digests)


def no_sounds(folder: Path, layout: str) -> UserError:
    """The error for a folder that is laid out otherwise; it tells of sounds in formats that are not read."""
    endings = Counter(path.suffix.lower() for path in files_under(folder))
    there = ", ".join(
        f"{n:,} {ending or 'without an ending'}" for ending, n in endings.most_common(4)
    )
    return UserError(
        "no-recordings",
        f"{folder} has {there or 'no files'}: give {layout}, with recordings as wav, FLAC, Ogg or MP3",
    )


def listed_in(
    source: Any, own: OwnSounds, said: str | None, guesses: Sequence[str], flag: str
) -> Listed:
    """The files that a table names, and the cells of the column ``said``, else of the first of ``guesses``, else
    of the only one that holds texts, or classes.

    Raises:
      UserError: no column holds them, or no file is there.
    """
    if isinstance(source, Path) and source.is_file() and ends(source, SOUNDS):
        raise UserError(
            "no-recordings",
            f"{source.name} is one recording: give the folder that holds all, or the table that names them",
        )
    frames, digests, lines = read_cells(source, own)
    first = frames[0][1]
    path = column_of_paths(first, own.path, SOUNDS, PATHS, "--path")
    if path is None:
        raise UserError("column-unnamed", which_column(first, "paths of the recordings", "--path"))
    column = column_called(first, said, guesses, flag)
    split = split_column(frames, own)
    if column is None:
        candidates = _candidates(first, flag, (path, split, own.group))
        column = the_one(first, candidates, f"{flag[2:]}s", flag, "column-unnamed")
    if flag == "--label":
        check_classes(first, column, (path, split, own.group), 0.5)
    frame, part, left_out = joined(frames, split, column, (path, own.group))
    group = group_of(frame, own)
    folder = source if isinstance(source, Path) else Path.cwd()
    folder = folder.parent if folder.is_file() else folder
    names, cells = words(frame, path), words(frame, column)
    index = Named(folder, SOUNDS)
    found = [index.all(name) if name is not None else [] for name in names]
    paths: list[Any] = [each[0] if len(each) == 1 else None for each in found]
    there = np.array([p is not None and c is not None for p, c in zip(paths, cells, strict=True)])
    if not there.any():
        raise UserError(
            "recordings-missing",
            f"{frame.name}: no file of column {path!r} is there, such as {names[0]}, or several are called so: "
            f"they are looked for in {index.folder} and, by their names, in folders below",
        )
    used: dict[Any, Any] = {
        path: taken("paths", "--path", own.path),
        column: taken(flag[2:], flag, said),
    }
    used |= {split: "part", own.group: "groups"}
    lines += [*left_out, *column_lines(first, used)]
    listed = Listed(paths, cells.tolist(), part, group, tuple(lines), digests)
    if there.all():
        return listed
    row = int(np.flatnonzero(~there)[0])
    why = f"no such file, or an empty cell: {frame.place(row)}, {plain(str(names[row]))}"
    return listed.only(np.flatnonzero(there), Line("skipped", f"{(~there).sum():,} rows", why))


def _candidates(frame: Frame, flag: str, others: Sequence[str | None]) -> list[str]:
    """The columns that may hold what ``--text`` or ``--label`` names."""
    rest = [heading for heading in frame.headings if heading not in others]
    if flag == "--label":
        return of_few_values(frame, rest)
    texts = [heading for heading in rest if heading in lengths(frame)]
    return texts if len(texts) < 2 else [h for h in prose(frame) if h in texts] or texts


def sound_header(path: str | Path, name: str) -> Any:
    """soundfile's ``info`` of a recording.

    Raises:
      UserError: ``name`` cannot be read, or is empty.
    """
    import soundfile

    try:
        info = soundfile.info(path)
    except (OSError, soundfile.SoundFileError) as error:
        said = str(getattr(error, "error_string", error)).strip()
        raise UserError("recording-unreadable", f"{name}: {said}") from None
    if not info.frames:
        raise UserError("recording-empty", f"{name} has no samples")
    return info


def read_sounds(listed: Listed, own: OwnSounds, title: str, cut: bool) -> tuple[Any, Listed, Info]:
    """``waveform int16 [n, samples]`` and ``length [n]`` of the files that can be read, or, too large for memory,
    the same as :class:`FileRows`; those files, with what there is to show; and the info, whose details have the
    ``rate``. What streams is read once here too, so that the rows are those that memory would hold.

    Args:
      cut: longer recordings than asked for are cut; else they are left out.

    Raises:
      UserError: none can be read.
    """
    for flag in ("rate", "seconds"):
        bounded(f"--{flag}", getattr(own, flag), above=0)

    def header(path: Path) -> tuple[int, int, float]:
        info = sound_header(path, path.name)
        return info.samplerate, info.channels, info.frames / info.samplerate

    listed, headers = _each(header, listed, "looking at recordings")
    rates = Counter(have for have, _, _ in headers).most_common()
    channels = Counter(count for _, count, _ in headers).most_common()
    rate = own.rate or min(rates[0][0], _FAST)
    lengths = np.array([seconds for _, _, seconds in headers])
    usual, longest = float(np.quantile(lengths, 0.99)), float(lengths.max())
    limit = own.seconds or (usual if longest > _TAIL * usual else longest)
    beyond = lengths > limit * (1 + 1e-6)
    other = "" if own.rate else "; --rate says another"
    lines = [
        Line("rate", f"{rate:,} Hz", _counted(rates, "Hz") + other),
        Line(
            "channels",
            "averaged" if channels[0][0] > 1 or len(channels) > 1 else "one",
            _counted(channels, "channels"),
        ),
        Line("length", f"{limit:.3g} s", f"{span(lengths, '.3g')} seconds"),
    ]
    if beyond.any():
        other = "" if own.seconds else "--seconds says another length"
        lines.append(Line("cut" if cut else "left out", f"{beyond.sum():,} longer ones", other))
    if not cut and beyond.any():
        short = np.flatnonzero(~beyond)
        listed, headers = listed.only(short), [headers[row] for row in short]
    samples = round(min(limit, longest) * rate)
    size = 2 * samples * len(headers)
    stream, line = too_large(size, own.stream)
    lines.append(line)
    if any(have != rate for have, _ in rates):
        need("soxr", extra="speech", why="recordings at several rates")

    def heard(path: Path) -> Any:
        if not stream:
            return read_sound(path, rate)[:samples]
        waveform, have = read_wav(path)
        return min(int(len(waveform) * rate / have + 0.5), samples)  # as many as soxr gives

    what = f"reading {len(headers):,} recordings, {size / 1e9:.2g} GB"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        listed, found = _each(heard, listed, what)
    samples_in_all = sum(found) if stream else sum(map(len, found))
    seconds = samples_in_all / rate
    hours = f"{seconds / 3600:.2g} hours" if seconds >= 3600 else f"{seconds / 60:.2g} minutes"
    lines.insert(0, Line("recordings", f"{len(found):,}", hours))
    if told:
        lines.append(
            Line("loud", f"{len(told):,} recordings", f"cut at full scale: {told[0].message}")
        )
    if stream:
        paths, length = np.array([str(p) for p in listed.paths], object), np.array(found, np.int32)
        rows: Any = FileRows(
            {"file": paths, "length": length}, DecodeSound(rate, int(length.max()))
        )
    else:
        rows = pad_waveforms(found, max(map(len, found)))
    listed = dataclasses.replace(listed, lines=(*listed.lines, *lines))
    digests = listed.digests | files_digest(title, listed.digests, listed.paths)
    info = own_info(title, "recordings", digests, details={"rate": rate})
    return rows, listed, info


def read_sound(file: str | os.PathLike, rate: int, warn: bool = True) -> np.ndarray:
    """A recording as mono int16 ``[samples]``, brought to that rate by soxr where it has another; ``warn`` of
    samples beyond full scale."""
    samples, found = read_wav(file, warn=warn)
    if found == rate:
        return samples
    return need("soxr", extra="speech", why=f"a recording of {found} Hz").resample(
        samples, found, rate
    )


def _each(function: Callable[[Path], T], listed: Listed, what: str) -> tuple[Listed, list[T]]:
    """``function`` of every file, and the files without those of which it raises UserError."""
    rows, good, bad = readable(function, listed.paths, what)
    if not bad:
        return listed, good
    if not good:
        raise UserError(bad[0].code, f"none of {len(bad):,} recordings can be read: {bad[0]}")
    return listed.only(np.array(rows), Line("skipped", f"{len(bad):,} files", str(bad[0]))), good


def _counted(pairs: Sequence[tuple[int, int]], unit: str) -> str:
    return ", ".join(f"{count:,} of {value:,} {unit}" for value, count in pairs[:4])
