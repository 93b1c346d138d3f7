"""Texts cut into tokens once, for the folders that :mod:`dl.data.own.token_files` reads."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own import corpus, door
from dl.data.own.corpus import OwnCorpus
from dl.data.own.found import shown_before
from dl.data.own.stored import StoredText
from dl.data.own.token_files import FILE, SAVED, Tokenizer, load_tokenizer
from dl.data.own.units import OWN, Units, documents_of, end_of, learned, token_pieces
from dl.data.readers.files import progress
from dl.data.readers.given import given_path
from dl.data.splits import Columns, Splits
from dl.data.tokenizers import Vocabulary

TOKENIZERS = {
    **{"bytes": "byte", "chars": "character", "words": "word", "bpe": "bpe"},
    "wordpiece": "wordpiece",
}


def write_tokens(
    texts: Sequence[str],
    folder: str | os.PathLike,
    tokenizer: str = "bytes",
    vocabulary: int | None = None,
    own: OwnCorpus | None = None,
) -> dict[str, Any]:
    """Cut texts into tokens, in a folder of their own, some in memory at a time.

    Args:
      texts: what :func:`dl.data.open` takes as a corpus; parts are cut out of each by itself.
      folder: the folder to write, which must not be there. It gets its name once it is whole.
      tokenizer: bytes, chars, words, bpe or wordpiece, made of the training parts; or the file or folder of one.
      vocabulary: how many different tokens, where it is made.
      own: how to read the texts, and how much of them to hold out.

    Returns:
      What ``tokens.json`` says.

    Raises:
      UserError: the folder is there, a text or the tokenizer cannot be read, or the disk is full.
    """
    folder, own = given_path(folder).absolute(), own or OwnCorpus()
    if folder.exists():
        raise UserError("file-exists", f"{folder} is there already: name another, or take it away")
    if not texts:
        raise UserError(
            "data-unknown", "there is no text to cut into tokens: name a file or a folder"
        )
    made = tokenizer in TOKENIZERS
    if vocabulary is not None and (not made or tokenizer == "bytes"):
        said = f"--vocabulary is for a tokenizer that is made, and {tokenizer} has its own"
        raise UserError("option-misplaced", f"{said}: leave it out")
    last: dict[str, Splits] = {}
    shown: set[str] = set()
    tables = {text: corpus.of_tables(Path(text)) for text in texts if Path(text).exists()}

    def each() -> Iterator[Splits]:
        for text in texts:
            if text not in last:
                last.clear()  # what is on disk of it goes with it
                named = text in corpus.NAMED or text.startswith("tfds:")
                reading = own if named else dataclasses.replace(own, stream=True)
                if any(tables.values()) and not tables.get(text, True):  # which has no columns
                    reading = dataclasses.replace(reading, text=None, split=None, group=None)
                with shown_before() if text in shown else contextlib.nullcontext():
                    last[text] = door.open(text, "corpus", reading)
                shown.add(text)
            yield last[text]

    units = Units(TOKENIZERS.get(tokenizer, "character"), vocabulary)  # type: ignore[arg-type]
    found = learned(lambda: (s.train for s in each()), units) if made else load_tokenizer(tokenizer)
    end = end_of(found)
    dtype = np.dtype("<u2" if max(found.numbers.values(), default=0) < 2**16 else "<u4")
    with _aside(folder) as place:
        writers: dict[str, _Writer] = {}
        digests: dict[str, str] = {}
        for splits in each():
            digests |= splits.info.digests
            for name, part in splits.parts.items():
                if name not in writers:
                    writers[name] = _Writer(place, name, dtype, held=name != "train")
                writers[name].add(_pieces(found, part, units.unit if made else OWN), end)
        parts = {name: writer.close() for name, writer in writers.items()}
        file = SAVED[isinstance(found, Vocabulary)]
        (found if isinstance(found, Vocabulary) else found.tokenizer).save(str(place / file))
        about: dict[str, Any] = {
            "format": 1,
            **{"tokenizer": tokenizer if made else "file", "tokenizer_file": file},
            **{"vocabulary": len(found), "end": end, "dtype": dtype.name},
            "count": sum(part["count"] for part in parts.values()),
            "digest": hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
            **{"parts": parts, "texts": digests},
        }
        (place / FILE).write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    return about


def _pieces(vocabulary: Tokenizer, part: Columns, unit: str) -> Iterator[np.ndarray]:
    """:func:`token_pieces` with a bar by the text's bytes."""
    text, total = part["text"], None
    if isinstance(text, StoredText):
        total = int((text.stops - text.starts).sum())
        unit = _cut_as(vocabulary, text) if unit == OWN else unit
    pieces = token_pieces(vocabulary, documents_of(part, unit))
    return progress(pieces, "cutting into tokens", total, weight=lambda piece: int(piece[1].sum()))


def _cut_as(vocabulary: Tokenizer, text: StoredText) -> str:
    """The unit by whose pieces a foreign tokenizer may be given a text: where some of it, cut so, has the tokens
    that it has whole. Else its own, a document at once."""
    some = "".join(text.lines(200))
    whole = vocabulary.encode(some)
    for unit, after in (("word", False), ("wordpiece", True)):
        edges = [
            n for n in range(1, len(some)) if some[n - 1].isspace() == after != some[n].isspace()
        ]
        cuts = itertools.pairwise([0, *edges, len(some)])
        parts = [vocabulary.encode(some[first:stop]) for first, stop in cuts]
        if np.array_equal(np.concatenate(parts), whole):
            return unit
    return OWN


class _Writer:
    """A part's files, written end to end; of what is held out also the bytes of each token."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype, held: bool):
        self.names = [f"{name}.bin", *([f"{name}.bytes", f"{name}.spelled"] if held else [])]
        self.files = [(folder / each).open("wb") for each in self.names]
        self.hashers = [hashlib.sha256() for _ in self.names]
        self.dtypes, self.count = (dtype, np.dtype("<u4"), np.dtype("<u4")), 0

    def add(self, pieces: Iterable[np.ndarray], end: int | None) -> None:
        """Another text, after the end of the one before."""
        before = [np.array([[end], [0], [0]])] if self.count and end is not None else []
        for piece in itertools.chain(before, pieces):
            self.count += piece.shape[1]
            rows = zip(self.files, self.hashers, piece, self.dtypes, strict=False)
            for file, hasher, values, dtype in rows:
                data = values.astype(dtype).tobytes()
                hasher.update(data)
                file.write(data)

    def close(self) -> dict[str, Any]:
        for file in self.files:
            file.flush()
            os.fsync(file.fileno())
            file.close()
        digests = [hasher.hexdigest() for hasher in self.hashers]
        return {"count": self.count, "digests": dict(zip(self.names, digests, strict=True))}


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A folder to fill that then gets the name ``folder``, or goes; what killed processes left goes too."""
    place = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        for left in folder.parent.glob(f".{folder.name}.*.part"):
            if not _alive(left.name.split(".")[-2]):
                shutil.rmtree(left, ignore_errors=True)
        place.mkdir(parents=True)
        yield place
        os.rename(place, folder)
    except OSError as error:
        said = error.strerror or error
        raise UserError("file-write", f"cannot write {folder}: {said}") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True
