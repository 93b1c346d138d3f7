"""Texts with a class each: ``text`` and ``label`` columns."""

import array
import dataclasses
import functools
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.classes import class_lines, coded
from dl.data.own.columns import (
    Parts,
    check_classes,
    column_lines,
    group_of,
    joined,
    of_few_values,
    read_tables,
    split_column,
    tables_in,
    taken,
    the_one,
    which_column,
)
from dl.data.own.found import Found, Line, OwnSheet, column_called, own_info, part_called, span
from dl.data.own.lines import (
    TEXTS,
    lengths,
    lines_of,
    not_texts,
    prose,
    tab_separated,
    text_of,
    text_table,
    texts_too_large,
    words_by_row,
)
from dl.data.own.paths import (
    by_part,
    ends,
    files_under,
    is_table,
    of_no_part,
    plain_name,
    stem,
    visible,
)
from dl.data.own.stored import TextSink
from dl.data.readers.csv_text import plain
from dl.data.readers.files import digest_files, readable
from dl.data.readers.frames import Frame, words
from dl.data.sets.sequences import equal_strands
from dl.data.splits import Splits

NAMED = (
    *("sst2", "sst2_phrases", "trec_questions"),
    *("splice", "promoters_tata", "promoters_non_tata", "promoters_ecoli"),
)
FOR_NAMED = ("together",)  # their equal ones are together
FASTA = (".fa", ".fasta", ".fna", ".fas")
LABELS = (
    *("label", "labels", "class", "category", "sentiment", "target", "intent", "emotion", "topic"),
    *("genre", "section", "stars", "rating", "score", "polarity", "tag", "y"),
)
_AT_ONCE = 10_000  # files whose texts are in memory at once, where they go to disk
_UNLABELLED = ("unsup", "unsupervised", "unlabeled", "unlabelled")
_ABOUT = ("readme", "license", "licence", "copying", "changelog")


@dataclasses.dataclass(frozen=True)
class OwnTexts(OwnSheet):
    """Fields for the config of a script that takes texts with a class each."""

    text: str | None = None
    """your column of texts; by default the one called text, sentence, review, ..., else the longest"""
    label: str | None = None
    """your column of classes; by default the one called label, class, ..., else the only one of few values"""
    together: bool = False
    """keep equal texts in one part, and bases with those of their other strand"""
    stream: bool = False
    """keep your texts and their tokens on disk, even if all fit into memory"""


def named(splits: Splits) -> Splits:
    """A named set whose texts are called otherwise, as in ``tfds:glue/sst2``."""
    columns = splits.train
    text = next((name for name in TEXTS if name in columns), None)
    if text is None or "label" not in columns:
        raise UserError(
            "set-of-another-kind",
            f"{splits.info.title} has the columns {', '.join(columns)}, and no text with a label",
        )
    kept = {"text": text, "label": "label"} | ({"group": "group"} if "group" in columns else {})
    return splits.map(lambda part: {name: part[column] for name, column in kept.items()})


def read(source: Any, own: OwnTexts) -> Found:
    """``text [rows]`` of strings and ``label [rows]`` int32, a place in ``info.classes``. Texts above memory are a
    :class:`dl.data.own.stored.StoredText`.

    A table (csv, tsv, JSON lines, Parquet, a frame), lines that begin with their label, a folder of such files
    by part, a folder of files for each class, or a file of lines for each class.

    Raises:
      UserError: there are no texts, or not two classes of them.
    """
    name = getattr(source, "name", "the table")
    files, lines = _by_class(source) if isinstance(source, Path) and source.is_dir() else ([], [])
    details: dict[str, Any] = {}
    disk, memory = texts_too_large(source, [path for *_, path, _ in files], own.stream)
    if files:
        texts, labels, parts, group, more = _of_files(files, own, disk)
        digests = {name: digest_files([path for *_, path, _ in files])}
    else:
        table = functools.partial(text_table, own=own, disk=disk)
        labelled = functools.partial(_labelled, own=own)
        begun = begin_with_labels(source, own)
        frames, digests, lines = read_tables(source, labelled if begun else table)
        texts, labels, parts, group, more, heading = _of_frames(frames, own)
        details = {"text": heading}
    lines += more
    sink, kept, without, total = TextSink(disk), [], 0, 0
    counts, characters = array.array("q"), array.array("q")
    for row, text in enumerate(texts):
        total += 1
        without += not text
        if text and labels[row]:
            kept.append(row)
            sink.add(text)
            counts.append(len(text.split()))
            characters.append(len(text))
    if len(kept) < total:
        said = f"{without:,} without a text, {total - len(kept) - without:,} without a label"
        lines.append(Line("skipped", f"{total - len(kept):,} rows", said))
    if not kept:
        raise UserError("table-empty", f"{name} has no text with a label")
    classes, label = coded([labels[row] for row in kept])
    unbroken = bool(np.median(counts) < 2 and np.median(characters) >= 12)
    said = "no blanks, as in DNA: `sentiment --unit character` reads them by letters"
    lines.append(Line("words a text", span(counts), said * unbroken))
    lines += [Line("characters a text", span(characters))] * unbroken
    lines += [*class_lines(classes, label, f"texts of {name}"), *memory]
    part = None if parts is None else parts[kept]
    info = own_info(name, "classification", digests, classes=classes, details=details)
    rows = {"text": sink.column(), "label": label}
    group = None if group is None else group[kept]
    if own.together and group is None and not disk and part is None:
        group = equal_strands(rows["text"])
    place = None if files or begun else np.array(kept)
    return Found(rows, info, tuple(lines), part, strata=label, group=group, place=place)


def begin_with_labels(source: Any, own: OwnSheet) -> bool:
    """Whether the lines of a file of text, or of all those of a folder by part together, begin with their label:
    ``__label__good Fine film``, ``LOC:city Where is Orinoco?``."""
    paths = []
    if isinstance(source, Path):
        paths = [each for _, each in tables_in(source)[0]] if source.is_dir() else [source]
    if not paths or any(map(is_table, paths)) or own.headings or own.separator:
        return False
    lines = [line for path in paths for line in lines_of(path, own.encoding) if line]
    first = Counter(line.partition(" ")[0] for line in lines)
    few = 2 <= len(first) <= max(2, min(200, len(lines) // 5))
    blanks = np.median([line.count(" ") for line in lines]) > 0 if lines else False
    told = all(word.startswith("__label__") for word in first)
    return bool(blanks) and (few or told) and not tab_separated(lines) and not _numeric(lines)


def _numeric(lines: Sequence[str]) -> bool:
    """Whether lines are rather rows of numbers."""
    return all(re.fullmatch(r"[-+.,;\d\sEe]+", line) for line in lines[:1000])


def _labelled(path: Path, own: OwnSheet) -> Frame:
    """A table of lines that begin with their label."""
    import pyarrow as pa

    cells = [line.partition(" ")[::2] for line in lines_of(path, own.encoding) if line]
    labels = [label.removeprefix("__label__") for label, _ in cells]
    columns = pa.table({"label": labels, "text": [text for _, text in cells]})
    return Frame(path.name, columns, notes=("the first word of a line is its label",))


def _columns(frame: Frame, own: OwnTexts, others: Sequence[str | None]) -> tuple[str, str]:
    """The headings of the texts and of the labels."""
    label = column_called(frame, own.label, LABELS, "--label")
    text = column_called(frame, own.text, TEXTS, "--text")
    sizes = {h: size for h, size in lengths(frame).items() if h not in (label, *others)}
    if text is None and not sizes:
        raise UserError("text-unnamed", which_column(frame, "texts", "--text"))
    text = text or max(sizes, key=lambda heading: sizes[heading])
    if not own.text and len(frame.headings) > 3 and text not in prose(frame):
        raise not_texts(frame, "texts")
    if label is None:
        free = [heading for heading in frame.headings if heading not in (text, *others)]
        few = of_few_values(frame, free)
        label = the_one(frame, few, "classes", "--label", "target-unnamed")
    if text == label:
        raise UserError(
            "column-twice",
            f"{frame.name}: column {plain(text)} holds the texts, and so not the classes too: name two by --text "
            f"and --label, of {', '.join(map(plain, frame.headings[:12]))}",
        )
    check_classes(frame, label, (text, *others), 0.5)
    return text, label


def _of_frames(frames: Parts, own: OwnTexts):
    first = frames[0][1]
    split = split_column(frames, own)
    text, label = _columns(first, own, (split, own.group))
    frame, part, lines = joined(frames, split, label, (text, own.group))
    used: dict[Any, Any] = {
        text: taken("text", "--text", own.text),
        label: taken("label", "--label", own.label),
    }
    used |= {split: "part", own.group: "groups"}
    texts, labels = words_by_row(frame, text), words(frame, label).tolist()
    more = [*lines, *column_lines(first, used)]
    return texts, labels, part, group_of(frame, own), more, text


def fasta(text: str) -> list[str]:
    """The sequences of a FASTA file, each in one line, without their names."""
    parts = re.split(r"(?m)^[>;].*$", text)
    return [bases for part in parts if (bases := re.sub(r"\s+", "", part))]


def _by_class(folder: Path) -> tuple[list[tuple[str, str, Path, bool]], list[Line]]:
    """``(part, label, file, whether it is one text)`` of a folder of files a class, or of a file of lines each."""
    found = []
    parts, rest = by_part(visible(folder))
    for part, entries in parts.items():
        if len(entries) == 1 and entries[0].is_dir():
            entries = visible(entries[0])
        entries = [p for p in entries if p.name.lower().partition(".")[0] not in _ABOUT]
        folders = [path for path in entries if path.is_dir()]
        files = [path for path in entries if path.is_file() and not is_table(path)]
        for path in folders:
            if path.name.lower() in _UNLABELLED:
                rest.append(path)
                continue
            found += [(part, path.name, path / inner, True) for inner in files_under(path)]
        if len(files) > 1 and not folders:
            found += [
                (part, label, path, False)
                for path, label in zip(files, _classes(files, part), strict=True)
            ]
        elif folders:
            rest += files
    return found, of_no_part(rest, "neither part nor class") if found else []


def _classes(files: Sequence[Path], part: str) -> list[str]:
    """The class of each file: its name without the part, or its ending where nothing else differs."""
    names = [stem(path) for path in files]
    if len(set(names)) < len(names):
        return [plain_name(path).rpartition(".")[2] for path in files]
    if not part:
        return names
    return ["_".join(w for w in re.split(r"[\W_]+", n) if not part_called(w)) or n for n in names]


def _of_files(files: Sequence[tuple[str, str, Path, bool]], own: OwnTexts, disk: bool):
    if own.text or own.label or own.split or own.group:
        raise UserError(
            "option-misplaced",
            "--text, --label, --split and --group name columns, and these are files by class: leave them out",
        )

    def texts_in(each: tuple[str, str, Path, bool]) -> list[str]:
        *_, path, whole = each
        if ends(path, FASTA):
            return fasta(text_of(path, own.encoding))
        return [text_of(path, own.encoding).strip()] if whole else lines_of(path, own.encoding)

    sink, told, strange = TextSink(disk), [], []
    for start in range(0, len(files), _AT_ONCE):
        some = files[start : start + _AT_ONCE]
        rows, read, bad = readable(texts_in, some, "reading texts")
        strange += bad
        told += [some[row][:2] for row, each in zip(rows, read, strict=True) for _ in each]
        for text in itertools.chain.from_iterable(read):
            sink.add(text)
    odd = [error for error in strange if not files[0][3] or error.code != "encoding"]
    if odd or len(strange) > len(files) / 10:
        raise [*odd, *strange][0]
    lines = [Line("files", f"{len(files):,}", "a text each" if files[0][3] else "a text a line")]
    lines += [Line("skipped", f"{len(strange)} files", str(e)) for e in strange[:1]]
    parts, labels = zip(*told, strict=True)
    if not files[0][3] and len(files) > 2 and len(told) <= len(files):
        raise UserError(
            "target-one-class",
            f"{files[0][2].parent.name} has {len(files):,} files of one text each: give the folder above, with a "
            "folder of such files for each class",
        )
    return sink.column(), labels, np.array(parts) if parts[0] else None, None, lines
