"""Pairs of texts, such as sentences and their translations: ``source`` and ``target`` columns."""

import array
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError, unknown
from dl.data.own.columns import (
    Parts,
    column_lines,
    group_of,
    joined,
    read_tables,
    split_column,
    taken,
    which_column,
)
from dl.data.own.found import Found, Line, OwnSheet, column_called, own_info, span
from dl.data.own.lines import (
    lengths,
    lines_of,
    prose,
    tab_separated,
    text_table,
    texts_too_large,
    words_by_row,
)
from dl.data.own.paths import (
    by_part,
    digests_under,
    files_under,
    is_table,
    of_no_part,
    part_by_name,
    part_of,
    plain_name,
    stem,
)
from dl.data.own.stored import TextSink, stripped_lines
from dl.data.readers.csv_text import plain
from dl.data.readers.frames import Frame
from dl.data.readers.given import given_path
from dl.data.splits import Splits

NAMED = ("multi30k", "debian_synopses")
_SOURCES = ("source", "src", "source_text", "input", "question")
_TARGETS = ("target", "tgt", "target_text", "output", "translation", "answer")


@dataclasses.dataclass(frozen=True)
class OwnPairs(OwnSheet):
    """Fields for the config of a script that takes pairs of texts."""

    source: str | None = None
    """the language to translate from: your column, or your files' ending or name, such as en"""
    target: str | None = None
    """the language to translate to; or a second file of lines, where --data is one"""
    stream: bool = False
    """keep your pairs and their tokens on disk, even if all fit into memory"""


def named(splits: Splits) -> Splits:
    """A named set whose two languages are called otherwise: English is the source."""
    texts = [name for name, column in splits.train.items() if column.dtype.kind in "OSUT"]
    if len(texts) != 2:
        raise UserError(
            "set-of-another-kind",
            f"{splits.info.title} has {len(texts)} columns of text ({', '.join(texts)}), and not two",
        )
    languages = tuple(sorted(texts, key=lambda name: name != "en"))
    details = splits.info.details | {"languages": languages}
    pairs = splits.map(
        lambda part: {
            side: part[name] for side, name in zip(("source", "target"), languages, strict=True)
        }
    )
    return dataclasses.replace(pairs, info=dataclasses.replace(splits.info, details=details))


def read(source: Any, own: OwnPairs) -> Found:
    """``source [rows]`` and ``target [rows]``, strings; ``info.details["languages"]`` are what the two are called.

    A table (csv, tsv, JSON lines, Parquet, a frame), a folder of such tables by part, two files of lines that
    belong together, or a folder of them by part.

    Raises:
      UserError: there are no two languages, or they have different numbers of lines.
    """
    name = getattr(source, "name", "the table")
    files, lines = _files(source, own) if isinstance(source, Path) else ([], [])
    paths = [path for _, *two in files for _, path in two]
    disk, memory = texts_too_large(source, paths, own.stream)
    if files:
        rows, parts, languages, more = _of_files(files, own)
        group, digests = None, digests_under(source, paths)
    else:
        frames, digests, lines = read_tables(
            source, functools.partial(text_table, own=own, disk=disk)
        )
        rows, parts, languages, group, more = _of_frames(frames, own)
    lines += more
    sinks, there = {side: TextSink(disk) for side in ("source", "target")}, array.array("b")
    counts = {side: array.array("q") for side in sinks}
    for pair in rows:
        there.append(bool(pair[0] and pair[1]))
        for side, text in zip(sinks, pair, strict=True) if there[-1] else ():
            sinks[side].add(text)
            counts[side].append(len(text.split()))
    kept = np.array(there, bool)
    if not kept.any():
        raise UserError("table-empty", f"{name} has no pair of texts")
    if not kept.all():
        lines.append(Line("skipped", f"{(~kept).sum():,} pairs", "one side is empty"))
    columns = {side: sink.column() for side, sink in sinks.items()}
    for side, language in zip(columns, languages, strict=True):
        said = f"{span(counts[side])} words; {columns[side][0][:40]!r}"
        lines.append(Line(side, plain(language), said))
    lines += memory
    part = None if parts is None else parts[kept]
    info = own_info(name, "translation", digests, details={"languages": languages})
    return Found(columns, info, tuple(lines), part, group=None if group is None else group[kept])


def _of_frames(frames: Parts, own: OwnPairs):
    first = frames[0][1]
    split = split_column(frames, own)
    languages = _columns(first, own, (split, own.group))
    frame, part, lines = joined(frames, split, wanted=(*languages, own.group))
    rows = zip(*(words_by_row(frame, heading) for heading in languages), strict=True)
    names = tuple(
        heading.rpartition(".")[2] for heading in languages
    )  # nested ones: translation.en
    used: dict[Any, Any] = {
        languages[0]: taken("source", "--source", own.source),
        languages[1]: taken("target", "--target", own.target),
    }
    lines += column_lines(first, {**used, split: "part", own.group: "groups"})
    return rows, part, names, group_of(frame, own), lines


def _columns(frame: Frame, own: OwnPairs, others: Sequence[str | None]) -> tuple[str, str]:
    """The headings of source and target: as given, as they are called, or the only two of texts, in order."""
    short = {heading.rpartition(".")[2]: heading for heading in reversed(frame.headings)}
    _check_two(own)
    given = [short.get(name or "", name) for name in (own.source, own.target)]
    source = column_called(frame, given[0], _SOURCES, "--source")
    target = column_called(frame, given[1], _TARGETS, "--target")
    if (source is None or target is None) or source == target:
        source, target = given
        free = [h for h in lengths(frame) if h not in (source, target, *others)]
        wanted = 2 - bool(source) - bool(target)
        if len(free) > wanted:
            free = [heading for heading in prose(frame) if heading in free] or free
        if len(free) != wanted:
            flags, among = "--source and --target", free if len(free) > wanted else None
            raise UserError("text-unnamed", which_column(frame, "two languages", flags, among))
        source = source or free.pop(0)
        target = target or free.pop(0)
    return source, target


def _files(source: Path, own: OwnPairs) -> tuple[list[tuple], list[Line]]:
    """``[(part, (language, file), (language, file))]`` of files of lines; none where these are tables."""
    if not source.is_dir():
        second = given_path(own.target or ".")
        if own.target is not None and not second.is_file() and (source.parent / second).is_file():
            second = source.parent / second
        if own.target is None or not second.is_file():
            if is_table(source) or tab_separated(lines_of(source, own.encoding)):
                return [], []
            gone = f", and there is no {own.target}" if own.target else ""
            raise UserError(
                "pairs-files",
                f"{source.name} is a file of lines in one language{gone}: name the file of the other by --target",
            )
        if source.samefile(second):
            said = f"--target {own.target} is {source.name} itself: name the file of the other language"
            raise UserError("column-twice", said)
        first, other = _languages([source, second])
        return [("", (first, source), (other, second))], []
    paths = [path for path in files_under(source) if len(path.parts) < 4]
    if not paths or any(map(is_table, paths)):
        return [], []
    groups, rest = by_part(paths, lambda path: part_by_name(path) or part_of(path))
    files = [
        (part, *_two([source / path for path in some], own, source))
        for part, some in groups.items()
    ]
    return files, of_no_part(rest)


def _check_two(own: OwnPairs) -> None:
    if own.source and own.source == own.target:
        said = f"--source and --target both name {plain(own.source)}: name two languages"
        raise UserError("column-twice", said)


def _languages(paths: Sequence[Path]) -> list[str]:
    """What each of the files is called by: its ending, its folder or its name, whichever differs."""
    ways: tuple[Callable[[Path], str], ...] = (
        lambda path: plain_name(path).rpartition(".")[2],
        lambda path: stem(path).rpartition(".")[2],
        lambda path: path.parent.name,
    )
    for way in ways:
        names = [way(path) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _two(paths: Sequence[Path], own: OwnPairs, folder: Path) -> list[tuple[str, Path]]:
    _check_two(own)
    names = _languages(paths)
    by_name = dict(zip(names, paths, strict=True))
    wanted = [own.source, own.target]
    for name in wanted:
        if name and name not in by_name:
            raise unknown(f"language of {folder.name}", name, names)
    free = [name for name in sorted(names) if name not in wanted]
    if len(free) != wanted.count(None) and None in wanted:
        raise UserError(
            "pairs-files",
            f"{folder} has {', '.join(path.name for path in paths[:6])}: two files of lines make pairs, so name "
            "one, a table, or the two languages by --source and --target",
        )
    chosen = [name or free.pop(0) for name in wanted]
    return [(name, by_name[name]) for name in chosen]


def _of_files(files: Sequence[tuple], own: OwnPairs):
    if own.split or own.group:
        raise UserError(
            "option-misplaced",
            "--split and --group name columns, and these are files of lines: leave them out",
        )
    counted = []
    for _, (_, first), (_, second) in files:
        one, other = (sum(1 for _ in stripped_lines(p, own.encoding)) for p in (first, second))
        if one != other:
            raise UserError(
                "pairs-lengths",
                f"{first.name} has {one:,} lines and {second.name} {other:,}: line for line they must say the "
                "same, so mend the one that has lost or gained a line",
            )
        counted.append(one)
    rows = (
        pair
        for _, *two in files
        for pair in zip(*(stripped_lines(path, own.encoding) for _, path in two), strict=True)
    )
    parts = np.repeat([part for part, *_ in files], counted)
    languages = tuple(language for language, _ in files[0][1:])
    told = parts if files[0][0] else None
    proposed = taken("", "--source", own.source)[1]
    return (
        rows,
        told,
        languages,
        [
            Line("files", f"{2 * len(files)}", "of lines, two a part: line n of both is a pair"),
            *[Line("direction", " to ".join(map(plain, languages)), proposed)]
            * (own.source is own.target is None),
        ],
    )
