"""Plain text for language models: ``text``, whose rows are the text end to end, and ``document`` numbers."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.columns import (
    column_lines,
    joined,
    read_tables,
    split_column,
    table_too_large,
    taken,
    which_column,
)
from dl.data.own.found import (
    Found,
    Line,
    OwnSheet,
    assign,
    column_called,
    held_said,
    own_info,
    span,
)
from dl.data.own.lines import (
    TEXTS,
    lengths,
    not_texts,
    prose,
    text_of,
    text_table,
    texts_column,
    words_by_row,
)
from dl.data.own.paths import by_part, files_under, is_table, of_no_part, visible
from dl.data.own.pixels import too_large
from dl.data.own.stored import in_order, rows_of, stored, text_blocks
from dl.data.readers.files import digest_files, readable
from dl.data.readers.picture_folders import HIDDEN
from dl.data.splits import Info, Splits

NAMED = ("tinyshakespeare", "brown", "debian_synopses")
OF_NAMED = ("text",)


@dataclasses.dataclass(frozen=True)
class OwnCorpus(OwnSheet):
    """Fields for the config of a script that takes plain text."""

    text: str | None = None
    """your column of texts, where --data is a table; by default the one called text, ..., else the longest"""
    in_order: bool = True
    """cut the parts in the order of the text, the last ones held out, instead of whole documents at random"""
    hold_out: tuple[float, float] = (0.1, 0.0)
    """shares of the text held out for validation and for test, where your files have no such parts"""
    stream: bool = False
    """keep your text and its tokens on disk, even if all fit into memory"""


def named(splits: Splits) -> Splits:
    """A named set with a column ``text``, whose rows follow each other."""
    return splits.only("text")


def read(source: Any, own: OwnCorpus) -> Found:
    """``text [rows]``, the lines with their ends, and ``document [rows]`` int32, by which they belong together.

    A file of text, a folder of files that are a document each, or a column of a table, a document a row. What is
    too large for memory is a :class:`dl.data.own.stored.StoredText`, a row of which is a block of lines.

    Raises:
      UserError: there is no text.
    """
    name = getattr(source, "name", "the table")
    paths: list[tuple[str, Path]] = []
    documents: list[tuple[str, str]] = []
    more: list[Line] = []
    if isinstance(source, Path) and not of_tables(source):
        paths, lines = _texts_in(source)
        _no_columns(own, source)
        digests = {name: digest_files([path for _, path in paths])}
        names = ", ".join([path.name for _, path in paths[:3]] + ["..."] * (len(paths) > 3))
        lines.append(Line("files", f"{len(paths):,}", f"a document each: {names}"))
        size = sum(path.stat().st_size for _, path in paths)
    else:
        found, digests, lines, disk = _of_frames(source, own)
        info = own_info(name, "language modelling", digests)
        if disk:
            return _on_disk(((part, [text]) for part, text in found), info, lines, disk[0], own)
        documents = [*found]
        size = sum(len(text) for _, text in documents)
    info = own_info(name, "language modelling", digests)
    stream, memory = too_large(12 * size, own.stream)  # three numbers for each character
    if stream:
        texts = [(part, text_blocks(path, own.encoding)) for part, path in paths]
        return _on_disk(texts or [(p, [text]) for p, text in documents], info, lines, memory, own)
    if paths:
        documents, more = _of_files(paths, own)
    documents = [(part, text) for part, text in documents if text.strip()]
    if not documents:
        raise UserError("table-empty", f"{name} has no text")
    rows = [(part, n, row) for n, (part, text) in enumerate(documents) for row in rows_of(text)]
    part, document, text = (list(column) for column in zip(*rows, strict=True))
    sizes = [len(text) for _, text in documents]
    some = f"{len(set().union(*text)):,} different ones; it begins {text[0][:40]!r}"
    lines += [
        *more,
        Line("documents", f"{len(documents):,}", f"of {span(sizes)} characters"),
        Line("text", f"{sum(sizes):,} characters", some),
        memory,
    ]
    columns = {"text": texts_column(text), "document": np.array(document, np.int32)}
    found = Found(columns, info, tuple(lines), group=None if own.in_order else columns["document"])
    if any(part):
        return dataclasses.replace(found, part=np.array([p or "train" for p in part]))
    if own.in_order:
        return _in_order(found, own.hold_out)
    if len(documents) < 3:
        raise _too_few_documents(name, len(documents))
    return found


def _in_order(found: Found, shares: tuple[float, float]) -> Found:
    """Parts by the text's characters, since lines differ in length: the last ones for test, those before for
    validation. What shares cannot be is for :func:`dl.data.own.found.divide` to say."""
    ends = np.cumsum([len(row) for row in found.rows["text"]])
    validation, test = (share * ends[-1] for share in shares)
    part = np.full(len(ends), "train", "<U10")
    part[ends > ends[-1] - test - validation] = "validation"
    part[ends > ends[-1] - test] = "test"
    if len(set(part)) < 1 + sum(share > 0 for share in shares):
        return found  # too few lines: by their number
    return dataclasses.replace(found, part=part, how=_in_order_said(shares))


def _on_disk(documents: Any, info: Info, lines: list[Line], memory: Line, own: OwnCorpus) -> Found:
    """Documents, each ``(part, blocks of text)``, with the parts that they would have in memory."""
    blocks, strange = stored(documents)
    if not len(blocks.text):
        raise strange[0] if strange else UserError("table-empty", f"{info.name} has no text")
    sizes = np.bincount(blocks.document, blocks.characters).astype(int)
    by_size = own.in_order and not any(blocks.part) and in_order(blocks, own.hold_out)
    if by_size:
        (blocks, part), how = (
            by_size,
            _in_order_said(own.hold_out, "blocks of lines"),
        )
    else:
        if len(sizes) < 3 and not any(blocks.part) and not own.in_order:
            raise _too_few_documents(info.name, len(sizes))
        number, said = (np.repeat(column, blocks.rows) for column in (blocks.document, blocks.part))
        given = np.where(said == "", "train", said) if any(blocks.part) else None
        whole = None if own.in_order else number
        part, how = assign(Found({"document": number}, info, part=given, group=whole), own)
        blocks, part = blocks.cut_by(part)
    lines += [
        *[Line("skipped", f"{len(strange)} files", str(e)) for e in strange[:1]],
        Line("documents", f"{len(sizes):,}", f"of {span(sizes)} characters"),
        Line("text", f"{sizes.sum():,} characters", f"it begins {blocks.text[0][:40]!r}"),
        memory,
    ]
    return Found({"text": blocks.text, "document": blocks.document}, info, tuple(lines), part, how)


def _too_few_documents(name: str, count: int) -> UserError:
    return UserError(
        "hold-out-impossible",
        f"{name} has {count} documents, of which none can be held out whole: leave --in-order on",
    )


def _in_order_said(shares: tuple[float, float], rows: str = "lines") -> str:
    return f"of {rows}; the end of the text is held out, {held_said(shares)}"


def _of_frames(source: Any, own: OwnCorpus):
    """``(part, text)`` of every row, digests, lines, and the line of it where the rows are on disk."""
    disk, memory = False, list[Line]()
    if isinstance(source, Path):  # a frame is in memory as it is
        disk, memory = table_too_large(source, own.stream)
    table = functools.partial(text_table, own=own, disk=disk)
    frames, digests, lines = read_tables(source, table)
    first = frames[0][1]
    if own.group:
        raise UserError("option-misplaced", "--group is not for plain text: leave it out")
    split = split_column(frames, own)
    heading = column_called(first, own.text, TEXTS, "--text")
    sizes = {h: size for h, size in lengths(first).items() if h != split}
    if heading is None and not sizes:
        raise UserError("text-unnamed", which_column(first, "texts", "--text"))
    heading = heading or max(sizes, key=lambda h: sizes[h])
    if not own.text and heading not in prose(first):
        raise not_texts(first, "running text")
    frame, part, left_out = joined(frames, split, wanted=(heading,))
    texts = words_by_row(frame, heading)
    cells = zip(itertools.repeat("") if part is None else part, texts, strict=False)
    documents = ((part, f"{text}\n") for part, text in cells if text is not None)
    used: dict[Any, Any] = {heading: taken("text", "--text", own.text), split: "part"}
    lines += [*left_out, *column_lines(first, used)]
    return documents, digests, lines, memory if disk else []


def of_tables(source: Path) -> bool:
    """Whether a text is a table, or a folder of nothing else but what others left, such as Spark its _SUCCESS."""
    files = files_under(source) if source.is_dir() else [source]
    told = [path for path in files if is_table(path) or not path.name.startswith(HIDDEN)]
    return bool(told) and all(map(is_table, told))


def _texts_in(source: Path) -> tuple[list[tuple[str, Path]], list[Line]]:
    """``(part, file)`` of everything in a folder."""
    if source.is_file():
        return [("", source)], []
    parts, rest = by_part(visible(source))
    paths = [
        (part, path)
        for part, some in parts.items()
        for top in some
        for path in ([top / inner for inner in files_under(top)] if top.is_dir() else [top])
    ]
    return paths, of_no_part(rest)


def _no_columns(own: OwnCorpus, source: Path) -> None:
    if own.text or own.split or own.group:
        raise UserError(
            "option-misplaced",
            f"--text, --split and --group name columns, and {source.name} has none: leave them out",
        )


def _of_files(paths: Sequence[tuple[str, Path]], own: OwnCorpus):
    rows, texts, strange = readable(
        lambda each: text_of(each[1], own.encoding), paths, "reading texts"
    )
    if strange and not texts:
        raise strange[0]
    lines = [Line("skipped", f"{len(strange)} files", str(e)) for e in strange[:1]]
    return [(paths[row][0], text) for row, text in zip(rows, texts, strict=True)], lines
