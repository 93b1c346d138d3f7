"""Texts as padded tokens: in memory, or on disk where the texts are."""

import functools
import itertools
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dl.core.errors import UserError
from dl.data.batches.stored import StoredColumns
from dl.data.batches.tokens import chunks
from dl.data.own import door
from dl.data.own.tested import in_order
from dl.data.prepared import prepared
from dl.data.readers.on_disk import Store, room
from dl.data.splits import Columns, Splits
from dl.data.tokenizers import BOS, EOS, Vocabulary, encode_all, pad, spaced, train_subwords

if TYPE_CHECKING:
    from tokenizers import Tokenizer

ROWS = 2**13  # texts that are in memory at once, of those on disk


def tokenized(
    splits: Splits,
    tokenizer: "Tokenizer | Vocabulary",
    length: int | None = None,
    most: int | None = None,
    prepare: Callable[[str], str] | None = None,
    **ends: int | None,
) -> Splits:
    """``splits`` with the column ``text`` as ``tokens`` and ``tokens_length``, padded as by :func:`pad`, which
    takes ``length`` and the ``ends``; longer ones are cut to ``most`` tokens, which is told. To each text
    ``prepare`` is applied before. What :func:`dl.data.own.units.open_lines` gives of folders of tokens is cut into
    rows of ``length``, by :func:`dl.data.batches.tokens.chunks`."""
    if "tokens" in splits.train:
        if splits.info.details["tokenizer"].get_vocab() != tokenizer.get_vocab():  # type: ignore[union-attr]
            said = f"{splits.info.title} was cut by another tokenizer than the model's"
            raise UserError("tokenizers-differ", f"{said}: `dl data tokens ... --tokenizer FILE`")
        return chunks(splits, length or most or 0, **ends)  # type: ignore[arg-type]

    def part(columns: Columns) -> Columns:
        others = {name: column for name, column in columns.items() if name != "text"}
        disk = _on_disk(columns["text"])
        rows = _encoded(tokenizer, columns["text"], most and most - len(ends), prepare)
        done = _padded(rows, np.arange(len(rows)), length, "tokens", disk, **ends) | others
        return StoredColumns(done) if disk else done

    return splits.map(part)


def tokenized_pairs(splits: Splits, tokenizer: "Tokenizer", most: int) -> Splits:
    """``splits`` with the columns ``source`` and ``target`` as tokens and lengths, ended by ``[EOS]``, the target
    begun by ``[BOS]``; by the source's length, so that batches hold little padding; and ``written``, the targets
    as they were. Longer sides are cut to ``most`` tokens, which is told."""

    def part(columns: Columns) -> Columns:
        source, target = (_encoded(tokenizer, columns[side], most) for side in ("source", "target"))
        by_length = np.zeros(len(source)) if in_order() else source.lengths
        order = np.argsort(by_length, kind="stable")
        disk = _on_disk(columns["source"])
        padded = _padded(source, order, None, "source", disk, end=EOS)
        padded |= _padded(target, order, None, "target", disk, start=BOS, end=EOS)
        done = padded | {"written": columns["target"][order]}
        return StoredColumns(done) if disk else done

    return splits.map(part)


@prepared
def subword_pairs(config: Any) -> tuple["Tokenizer", Splits]:
    """The byte-pair tokenizer of the training part's pairs of texts that a script's config names, one for both
    sides, and its :func:`tokenized_pairs`; by ``data``, ``vocabulary``, ``longest`` and the fields of
    :class:`dl.data.own.pairs.OwnPairs`."""
    splits = door.open(config.data, "pairs", config)
    tokenizer = train_subwords(both_sides(splits.train), "bpe", config.vocabulary)
    return tokenizer, tokenized_pairs(splits, tokenizer, config.longest)


def both_sides(columns: Columns) -> Iterable[str]:
    """All sources, then all targets; one after another where they are on disk."""
    sides = columns["source"], columns["target"]
    return itertools.chain(*sides) if _on_disk(sides[0]) else [*sides[0], *sides[1]]


def _on_disk(texts: Any) -> bool:
    return not isinstance(texts, np.ndarray)


class _Ragged(NamedTuple):
    """Sequences end to end: int32 ``numbers``, and where each ends."""

    numbers: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.ends, prepend=0)

    def row(self, row: int) -> np.ndarray:
        return self.numbers[self.ends[row - 1] if row else 0 : self.ends[row]]


def _encoded(
    tokenizer: "Tokenizer | Vocabulary",
    texts: Any,
    most: int | None,
    prepare: Callable[[str], str] | None = None,
) -> _Ragged:
    """The texts' numbers, each cut to ``most``."""
    store = Store(np.int32) if _on_disk(texts) else None
    pieces, lengths, longer = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)], 0
    for start in range(0, len(texts), ROWS):
        some = texts[start : start + ROWS]
        rows = encode_all(tokenizer, map(prepare, some) if prepare else some)
        longer += sum(len(row) > most for row in rows) if most else 0
        rows = [row[:most] for row in rows]
        lengths.append(np.array([len(row) for row in rows], np.int64))
        numbers = np.fromiter(itertools.chain.from_iterable(rows), np.int32)
        if store is None:
            pieces.append(numbers)
        else:
            store.write(numbers)
    if longer:
        said = f"{longer:,} of {len(texts):,} texts have more than {most} tokens: their ends are left out"
        warnings.warn(said, stacklevel=4)
    whole = np.concatenate(pieces) if store is None else store.mapped()
    return _Ragged(whole, np.cumsum(np.concatenate(lengths)))


def _padded(
    rows: _Ragged, order: np.ndarray, length: int | None, name: str, disk: bool, **ends: Any
) -> Columns:
    """The rows in that order, by :func:`pad`."""
    if length is None:
        length = int(rows.lengths.max(initial=0)) + len(ends)
    done = {
        name: room((len(order), length), np.int32, disk),
        f"{name}_length": np.zeros(len(order), np.int32),
    }
    for start in range(0, len(order), ROWS):
        some = [rows.row(row).tolist() for row in order[start : start + ROWS]]
        for column, values in pad(some, length, name=name, **ends).items():
            done[column][start : start + ROWS] = values
    return done


def tokenized_stories(splits: Splits, vocabulary: Vocabulary, sentences: int, words: int) -> Splits:
    """``splits`` of stories as numbers: ``story [rows, sentences, words]``, its last ``sentences`` ones,
    ``story_length``, ``question [rows, words]`` and, where there are some, ``choices [rows, choices, words]``; the
    other columns as they are. What is left out is told."""

    kind = np.uint16 if len(vocabulary) < 2**16 else np.int32  # most of a story is padding

    @functools.cache  # the same sentences come again and again
    def numbers(text: str) -> tuple[np.ndarray, bool]:
        found = vocabulary.encode(spaced(text))
        row = np.zeros(words, kind)
        row[: min(words, len(found))] = found[:words]
        return row, len(found) > words

    def part(columns: Columns) -> Columns:
        cut = [story.split("\n")[-sentences:] for story in columns["story"]]
        longest = max(map(len, cut))
        story = np.zeros((len(cut), longest, words), kind)
        for row, lines in enumerate(cut):
            story[row, : len(lines)] = [numbers(line)[0] for line in lines]
        length = np.array([len(lines) for lines in cut], np.int32)
        question = np.stack([numbers(text)[0] for text in columns["question"]])
        done = {"story": story, "story_length": length, "question": question}
        if "choices" in columns:
            done["choices"] = np.stack([[numbers(t)[0] for t in row] for row in columns["choices"]])
        told = [text.count("\n") + 1 for text in columns["story"]]
        if more := sum(count > sentences for count in told):
            said = f"{more:,} of {len(told):,} stories have more than {sentences} sentences: their beginnings"
            warnings.warn(f"{said} are left out", stacklevel=4)
        asked = [*columns["question"], *np.ravel(columns.get("choices", [])).tolist()]
        every = {"sentences": [*itertools.chain(*cut)], "questions and choices": asked}
        for what, texts in every.items():
            if more := sum(numbers(text)[1] for text in texts):
                said = f"{more:,} of {len(texts):,} {what} have more than {words} words: their ends"
                warnings.warn(f"{said} are left out", stacklevel=4)
        return {name: x for name, x in columns.items() if name not in done} | done

    return splits.map(part)
