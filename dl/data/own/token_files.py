"""Folders of tokens, cut by ``dl data tokens`` and mapped from disk by every run that learns from them.

A folder has ``train.bin`` and perhaps ``validation.bin`` and ``test.bin``, numbers of tokens end to end, uint16 or
uint32, little-endian; of what is held out also ``.bytes`` and ``.spelled``, uint32, of each token; the tokenizer's
file; and ``tokens.json``, which says all of that.
"""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError, one_line
from dl.data.batches.mixtures import shares_of
from dl.data.batches.tokens import TokenFiles
from dl.data.own.corpus import OwnCorpus
from dl.data.own.found import Line, own_info, show
from dl.data.own.tested import with_tested
from dl.data.own.units import OWN, Encoded, Units, documents_of, tokens_of
from dl.data.readers.files import digest_files
from dl.data.readers.given import json_in
from dl.data.readers.mapped import remembered
from dl.data.splits import Columns, Splits
from dl.data.tokenizers import Subwords, Vocabulary, load_subwords, load_vocabulary

FILE = "tokens.json"
SAVED = ("tokenizer.json", "vocabulary.json")
Tokenizer = Vocabulary | Subwords
_COLUMNS = {".bin": "tokens", ".bytes": "bytes", ".spelled": "spelled"}  # by their files' endings


def load_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """A tokenizer from its file, or from the folder that it lies in.

    Raises:
      UserError: there is none, or it is of no kind that is known.
    """
    place = _given(path)
    if os.path.isdir(place):
        place = next((place / name for name in SAVED if (place / name).is_file()), place)
    if not os.path.isfile(place):  # nor can it be, where its name is too long
        raise UserError(
            "tokenizer-file",
            f"{path} is no tokenizer: give bytes, chars, words, bpe, wordpiece, or a tokenizer.json or its folder",
        )
    with contextlib.suppress(OSError, ValueError):
        found = json_in(place)
        if isinstance(found, dict) and "symbols" in found:
            return load_vocabulary(place)
    return Subwords(load_subwords(place))


def is_token_folder(path: Any) -> bool:
    """Whether a path is a folder of tokens; one that cannot be is none."""
    return isinstance(path, str | os.PathLike) and os.path.isfile(_given(path) / FILE)


def _given(path: str | os.PathLike) -> Path:
    """``path`` with ``~`` made whole, where there is such a user."""
    return Path(os.path.expanduser(path))


def named_folders(data: Any) -> list[tuple[Path, str]]:
    """The folders of tokens that ``data`` names, with their weights: ``FOLDER``, or ``FOLDER:WEIGHT,...``; none
    where it names something else.

    Raises:
      UserError: only some of them are folders of tokens, or one was written by another program.
    """
    path = _given(data) if isinstance(data, str | os.PathLike) else Path()
    if is_token_folder(path):
        return [(path.absolute(), "1")]
    if os.path.isfile(path / "train.bin"):
        said = f"{path} has train.bin and no {FILE}"
        raise UserError(
            "tokens-foreign", f"{said}: write the folder by `dl data tokens TEXTS --out`"
        )
    if os.path.exists(path) or not any(mark in str(data) for mark in ",:"):
        return []
    found: list[tuple[Path, str]] = []
    for given in map(str.strip, str(data).split(",")):
        name, _, weight = (given, "", "1") if is_token_folder(given) else given.rpartition(":")
        found.append((_given(name or given).absolute(), weight))
    there = [is_token_folder(folder) for folder, _ in found]
    if any(there) and not all(there):
        other = found[there.index(False)][0].name
        said = f"{other} is no folder of tokens, and a mixture is of such alone"
        raise UserError("mixture-folder", f"{said}: write it by `dl data tokens`")
    return found if all(there) else []


def read_tokens(folders: Sequence[tuple[Path, str]], config: Any, weights: Any = None) -> Encoded:
    """The tokens of folders, mapped: of one as ``np.memmap`` ``[tokens]``, of several as :class:`TokenFiles`, of
    which training takes each by its weight.

    Args:
      folders: see :func:`named_folders`.
      config: with fields of :class:`OwnCorpus` and :class:`Units`, which must be left as they are.
      weights: the folder of an imported model, whose tokenizer must be the folders'.

    Raises:
      UserError: a folder is damaged, or their tokenizers differ.
    """
    first = folders[0][0]
    _refuse_options(config, first)
    shares = shares_of([weight for _, weight in folders])
    found = [_read(folder) for folder, _ in folders]
    vocabulary, splits = found[0][0], dict(found[0][1])
    others = [(folder, other) for (folder, _), (other, _) in zip(folders, found, strict=True)]
    if weights is not None and (Path(weights) / SAVED[0]).exists():
        others.append((Path(weights), load_tokenizer(weights)))
    for folder, other in others:
        if other.numbers != vocabulary.numbers:
            raise UserError(
                "tokenizers-differ",
                f"{folder.name} has another tokenizer than {first.name}: cut the texts of both by one, "
                f"`dl data tokens TEXTS --tokenizer FOLDER`",
            )
    if len(folders) > 1:
        for name in ("train", "validation", "test"):
            having = [parts[name] for _, parts in found if name in parts]
            names, chosen = [*having[0]] if having else [], shares if name == "train" else ()
            several: Any = {c: TokenFiles(tuple(p[c] for p in having), chosen) for c in names}
            splits[name] = several
    lines = [Line("tokens", f"{len(vocabulary):,} different", "mapped from disk")]
    for (folder, _), (_, parts), share in zip(folders, found, shares, strict=True):
        counts = ", ".join(f"{len(p['tokens']):,} {name}" for name, p in parts.items() if p)
        rows = f"{share} of {sum(shares)} rows" if len(shares) > 1 else ""
        lines.append(Line(folder.name, counts, rows))
    title = ", ".join(folder.name for folder, _ in folders)
    digests = {f"{folder.name}/{FILE}": digest_files([folder / FILE]) for folder, _ in folders}
    info = own_info(title, "language modelling", digests, details={"lines": lines})
    show(info)
    train, validation, test = (splits.get(name, {}) for name in ("train", "validation", "test"))
    return Encoded(vocabulary, _tested(Splits(train, validation, test, info), vocabulary))


def _refuse_options(config: Any, folder: Path) -> None:
    """Raise UserError where the config says how to read a text."""
    fields = (*dataclasses.fields(OwnCorpus), *dataclasses.fields(Units))
    own = {f.name: f.default for f in dataclasses.fields(config)}
    given = [
        f"--{f.name.replace('_', '-')}"
        for f in fields
        if f.name != "stream" and f.name in own and getattr(config, f.name) != own[f.name]
    ]
    if given:
        raise UserError(
            "option-misplaced",
            f"{', '.join(given)}: {folder.name} holds tokens already, so leave these out (they are for "
            "`dl data tokens`)",
        )


def _read(folder: Path) -> tuple[Tokenizer, dict[str, Columns]]:
    """The tokenizer of a folder and its parts, whose files are read to the last byte when they are new."""
    try:
        said = json_in(folder / FILE)
        dtype = {"uint16": "<u2", "uint32": "<u4"}[said["dtype"]]
        files = [
            (name, folder / file, int(part["count"]), str(digest))
            for name, part in said["parts"].items()
            for file, digest in part["digests"].items()
        ]
        columns = [_COLUMNS[path.suffix] for _, path, _, _ in files]
        saved, size = folder / said["tokenizer_file"], said["vocabulary"]
        if said["format"] != 1 or "train" not in said["parts"]:
            raise ValueError("another format")
        named = [os.path.normpath(path) for path in (saved, *(path for _, path, *_ in files))]
        if {os.path.dirname(path) for path in named} != {os.path.normpath(folder)}:
            raise ValueError("it names files elsewhere")
        for name, part in said["parts"].items():
            wanted = {f"{name}{end}" for end in (_COLUMNS if name != "train" else [".bin"])}
            if odd := sorted(wanted ^ part["digests"].keys()):
                raise ValueError(f"a file too {'few' if odd[0] in wanted else 'many'}: {odd[0]}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            "tokens-foreign",
            f"{folder / FILE} is none that `dl data tokens` wrote ({one_line(error)}): write the folder again",
        ) from None
    vocabulary = load_tokenizer(saved)
    if len(vocabulary) != size:
        raise _damaged(saved, "is not the tokenizer of these tokens")
    parts: dict[str, Columns] = {}
    for column, (name, path, count, digest) in zip(columns, files, strict=True):
        kind = np.dtype(dtype if column == "tokens" else "<u4")
        there = os.path.getsize(path) if os.path.isfile(path) else 0
        if there != count * kind.itemsize:  # mapped, it would end the process by SIGBUS
            raise _damaged(path, f"has {there:,} bytes of {count * kind.itemsize:,}")
        if digest_files([path]) != hashlib.sha256(digest.encode()).hexdigest():
            raise _damaged(path, "has other bytes than were written")
        mapped = remembered(np.memmap(path, kind, "r")) if count else np.zeros(0, kind)
        parts.setdefault(name, {})[column] = mapped
    return vocabulary, parts


def _damaged(path: Path, told: str) -> UserError:
    return UserError("file-damaged", f"{path} {told}: write the folder again by `dl data tokens`")


def _tested(splits: Splits, vocabulary: Tokenizer) -> Splits:
    """``splits``, their test part replaced by another text where a run is judged by one."""
    none = {"text": np.zeros(0, object), "document": np.zeros(0, np.int32)}
    shell = dataclasses.replace(splits, train=none, validation={}, test={})
    test = with_tested(shell, "corpus", OwnCorpus()).test
    if not test:
        return splits
    unit = OWN if isinstance(vocabulary, Subwords) else "word"
    return dataclasses.replace(splits, test=tokens_of(vocabulary, documents_of(test, unit), test))
