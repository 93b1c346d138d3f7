"""Plain text as tokens: bytes, characters, words or subwords."""

import concurrent.futures
import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dl.core.errors import UserError
from dl.core.task import Batch
from dl.data.batches.resident import held_out
from dl.data.own import door
from dl.data.own.found import Line, show
from dl.data.own.lines import texts_column
from dl.data.own.stored import BLOCK, StoredText, rows_of
from dl.data.prepared import prepared
from dl.data.readers.on_disk import Store
from dl.data.splits import Columns, Splits
from dl.data.tokenizers import (
    BYTES,
    Subwords,
    Vocabulary,
    characters,
    counted,
    load_subwords,
    train_subwords,
)

_ENDS = ("[EOS]", "<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
OWN = "the model's own"  # in place of a unit, where a tokenizer is given
_LEVELS: Any = {
    "character": "character",
    "word": "piece",
    "spaced": "word",
}  # those that are counted


@dataclasses.dataclass(frozen=True)
class Units:
    """Fields for the config of a script that cuts plain text, named or the user's own, into tokens."""

    unit: Literal["character", "byte", "word", "spaced", "wordpiece", "bpe"] = "character"
    """what a token is: bpe is byte-level and knows every text, as byte does; spaced is what lies between blanks,
    for texts whose words and marks are parted already"""
    vocabulary: int | None = None
    """how many different tokens; by default every character, or a number by the text's size, which is shown"""
    min_count: int = 2
    """a character or word that comes less often in your training text is unknown"""


@dataclasses.dataclass(frozen=True)
class Documents:
    """Field for the config of a script that attends within a window of text, see :func:`within_documents`."""

    documents: bool = False
    """let no token see the document before its own, and learn no beginnings of documents"""


class Encoded(NamedTuple):
    """A text as tokens: their ``vocabulary``, and ``splits`` with the columns ``tokens``, ``bytes`` (of UTF-8
    that each stands for) and ``spelled`` (those of them that an unknown token hides), all int32 ``[tokens]``."""

    vocabulary: Vocabulary | Subwords
    splits: Splits


def encode(splits: Splits, units: Units, folder: str | None = None) -> Encoded:
    """The text of ``splits`` in tokens made of its training part.

    A symbol that is seen once, or never, in the training part of the user's own text is ``[UNK]``. Documents
    follow each other with the vocabulary's end of text between them.

    Args:
      units: what a token is, and how many there are; or a config with its fields.
      folder: of an imported model; where a ``tokenizer.json`` lies there, its subwords take the units' place.
    """
    unit: str = units.unit
    saved = Path(folder) / "tokenizer.json" if folder is not None else None
    if saved is not None and saved.exists():
        vocabulary: Vocabulary | Subwords = Subwords(load_subwords(saved))
        unit = OWN
    else:
        vocabulary = learned(lambda: [splits.train], units)
    done = splits.map(lambda part: tokens_of(vocabulary, documents_of(part, unit), part))
    if unit != "character" or "document" in splits.train:
        _tell(vocabulary, done, unit)
    return Encoded(vocabulary, done)


@prepared
def encoded(config: Any) -> Encoded:
    """:func:`encode` of the text that a script's config names: by ``data``, ``weights`` where it has that, and the
    fields of :class:`dl.data.own.corpus.OwnCorpus` and :class:`Units`; or what
    :func:`dl.data.own.token_files.read_tokens` reads of folders of tokens."""
    from dl.data.own.token_files import named_folders, read_tokens

    folder = getattr(config, "weights", None)
    if folders := named_folders(config.data):
        return read_tokens(folders, config, folder)
    return encode(door.open(config.data, "corpus", config), config, folder)


def open_lines(data: Any, **own: Any) -> Splits:
    """Plain text opened by :func:`dl.data.open`, with the column ``text`` alone, a row of which is a line, in
    memory; or folders of tokens, with the column ``tokens``, whose subwords are ``info.details["tokenizer"]``."""
    from dl.data.own.token_files import named_folders, read_tokens

    if folders := named_folders(data):
        vocabulary, splits = read_tokens(folders, door.options_of("corpus")(**own))
        if isinstance(vocabulary, Vocabulary):
            said = f"{data} is cut into {vocabulary.level}s, which have no [MASK]"
            raise UserError("tokenizer-bert", f"{said}: `dl data tokens ... --tokenizer wordpiece`")
        details = {**splits.info.details, "tokenizer": vocabulary.tokenizer}
        return dataclasses.replace(splits, info=dataclasses.replace(splits.info, details=details))

    def lines(part: Columns) -> Columns:
        if not isinstance(part["text"], StoredText):
            return {"text": part["text"]}
        return {"text": texts_column([row for block in part["text"] for row in rows_of(block)])}

    return door.open(data, "corpus", **own).map(lines)


def documents_of(part: Columns, unit: str = "word") -> Iterator[Iterable[str]]:
    """Each document of a part with the column ``text`` and perhaps ``document``; one on disk in pieces that no
    token goes across: ``unit`` has them end before or after white space, or makes it one piece, as another's
    tokenizer may see a text's beginning otherwise."""
    number = part["document"] if "document" in part else np.zeros(len(part["text"]), np.int32)
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1), len(part["text"])]
    for first, last in itertools.pairwise(edges):
        text: Any = part["text"][first:last]
        stored = isinstance(text, StoredText) and unit != OWN
        yield text.pieces(after=unit == "wordpiece") if stored else ["".join(text)]


def learned(parts: Callable[[], Sequence[Columns] | Iterator[Columns]], units: Units) -> Any:
    """The :class:`Vocabulary` or :class:`Subwords` of training parts, which are asked for as often as needed."""
    unit: Any = units.unit
    size = units.vocabulary
    if unit == "byte":
        return BYTES

    def texts() -> Iterator[str]:
        documents = (document for part in parts() for document in documents_of(part))
        return itertools.chain.from_iterable(documents)

    if unit == "character" and not any("document" in part for part in parts()):
        return characters("".join(texts()))
    if level := _LEVELS.get(unit):
        most = size or (None if unit == "character" else 16384)
        ends = ("[UNK]", "[EOS]")
        return counted(level, texts(), min_count=units.min_count, size=most, specials=ends)
    if size is None:  # a subword for some 256 characters, in powers of two
        size = min(8192, max(512, 2 ** int(math.log2(1 + sum(map(len, texts())) / 256))))
    stored = all(isinstance(part["text"], StoredText) for part in parts())  # blocks of whole lines
    blocks = (text for part in parts() for text in part["text"]) if stored else texts()
    lines = (line for text in blocks for line in text.splitlines(keepends=True))
    return Subwords(train_subwords(lines if stored else [*lines], unit, size))


def end_of(vocabulary: Vocabulary | Subwords) -> int | None:
    """The number of the end of text, which stands between documents; None where the vocabulary has none."""
    found = (vocabulary.numbers.get(name) for name in _ENDS)
    return next((number for number in found if number is not None), None)


def within_documents(
    held: Splits, batch_size: int, vocabulary: Any, wanted: bool = True
) -> dict[str, Any]:
    """``evals``, ``tests`` and ``augment`` of an experiment whose attention and loss stop at the end of text
    between documents.

    ``inputs [batch, time]`` gain ``document``, their number within the window, and ``weight``, 0 where an input is
    the end of text, as nothing foretells how the next document begins.

    Args:
      held: of :func:`dl.data.batches.tokens.held_windows`; batch_size: of their evaluation.
      vocabulary: of :func:`encode`.
      wanted: False leaves all windows as they are.

    Raises:
      UserError: the vocabulary has no end of text.
    """
    if not wanted:
        return held_out(held, batch_size)
    end = end_of(vocabulary)
    if end is None:
        said = "--documents needs an end of text between documents, which these tokens lack"
        raise UserError("option-misplaced", f"{said}: give several documents, or leave it out")

    def apart(batch: Any) -> Any:
        ended = (batch["inputs"] == end).astype("int32")
        weight = (1.0 - ended).astype("float32") * batch.get("weight", 1)
        return {**batch, "document": ended.cumsum(1, dtype="int32") - ended, "weight": weight}

    def augment(key: Any, batch: Batch) -> Batch:
        return apart(batch)

    return {"augment": (augment,), **held_out(held.map(apart), batch_size)}


def token_pieces(
    vocabulary: Vocabulary | Subwords, documents: Iterable[Iterable[str]]
) -> Iterator[np.ndarray]:
    """Documents as int32 ``[3, tokens]``, some at a time: the tokens, their bytes, and those of them that an
    unknown token hides; with the end of text after all documents but the last."""
    end = end_of(vocabulary)
    between = np.array([[end], [0], [0]][: 3 * (end is not None)], np.int32).reshape(3, -1)

    def cut(texts: list[str | None]) -> np.ndarray:
        found = [
            between if text is None else np.stack(_measured(vocabulary, text)) for text in texts
        ]
        return np.concatenate(found, axis=1).astype(np.int32)

    groups = _grouped(documents)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        while some := [*itertools.islice(groups, os.cpu_count())]:
            yield from pool.map(cut, some)


def _grouped(documents: Iterable[Iterable[str]]) -> Iterator[list[str | None]]:
    """The texts of documents, and None between two documents, some million characters at a time."""
    group: list[str | None] = []
    size = 0
    for place, document in enumerate(documents):
        group += [None] * (place > 0)
        for text in document:
            group.append(text)
            size += len(text)
            if size >= BLOCK:
                yield group
                group, size = [], 0
    if group:
        yield group


def tokens_of(
    vocabulary: Vocabulary | Subwords, documents: Iterable[Iterable[str]], part: Columns
) -> Columns:
    """:func:`token_pieces` as columns, on disk where the text of ``part`` is."""
    pieces, names = token_pieces(vocabulary, documents), ("tokens", "bytes", "spelled")
    if not isinstance(part["text"], StoredText):
        return dict(zip(names, np.concatenate([*pieces], axis=1), strict=True))
    stores = [Store(np.int32) for _ in names]
    for piece in pieces:
        for store, values in zip(stores, piece, strict=True):
            store.write(values)
    return {name: store.mapped() for name, store in zip(names, stores, strict=True)}


def _measured(vocabulary: Vocabulary | Subwords, text: str) -> tuple[np.ndarray, ...]:
    """``(tokens, bytes, spelled)`` of a text."""
    if isinstance(vocabulary, Subwords):
        tokens, starts = vocabulary.located(text)
        before = np.append(0, np.cumsum(_widths(text)))
        edges = np.concatenate([before[starts], before[-1:]])
        edges[:1] = 0
        sizes = np.diff(edges)
    elif vocabulary.level in ("byte", "character"):
        tokens = vocabulary.encode(text)
        sizes = _widths(text) if vocabulary.level == "character" else np.ones_like(tokens)
    else:
        parts = vocabulary.cut(text)
        tokens = vocabulary.encode(np.array(parts, object))
        blank = vocabulary.level == "word"  # the one after it
        sizes = np.fromiter((len(part.encode()) + blank for part in parts), np.int32, len(parts))
    unknown = vocabulary.numbers.get("[UNK]", vocabulary.numbers.get("<unk>", -1))
    return tokens, sizes, np.where(tokens == unknown, sizes, 0)


def _widths(text: str) -> np.ndarray:
    """The bytes of UTF-8 that each character of a text has."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return 1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF)


def _tell(vocabulary: Vocabulary | Subwords, splits: Splits, unit: str) -> None:
    """Show what became of the text."""
    tokens = splits.train["tokens"]
    mean = f"{splits.train['bytes'].mean():.2f} bytes each"
    lines = [
        Line("tokens", f"{len(vocabulary):,} different", unit),
        Line("in train", f"{len(tokens):,}", mean),
    ]
    for name, part in splits.parts.items():
        if name != "train" and (share := (part["spelled"] > 0).mean()):
            said = "bits a byte count them as spelled, 8 bits a byte"
            lines.append(Line(f"unknown in {name}", f"{share:.2%}", said))
    show(dataclasses.replace(splits.info, title="Tokens", details={"lines": lines}))
