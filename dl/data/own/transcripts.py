"""Recordings with their texts: ``waveform`` int16 ``[n, samples]``, ``length [n]`` in samples, ``text [n]``."""

import dataclasses
import unicodedata
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.found import Found, Line, span
from dl.data.own.lines import text_of
from dl.data.own.paths import (
    SOUNDS,
    TABLES,
    by_first_folder,
    ends,
    files_under,
    short_names,
    visible,
)
from dl.data.own.sounds import Listed, OwnSounds, listed_in, no_sounds, read_sounds
from dl.data.readers.files import digest_files
from dl.data.splits import Splits, known

NAMED = ("fsdd",)
OF_NAMED = ("waveform", "length", "label")
UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # a character that training never shows
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEXTS = (
    *("text", "sentence", "transcript", "transcription", "normalized_text", "utterance", "words"),
    *("raw_text", "target", "label", "column_2"),
)


@dataclasses.dataclass(frozen=True)
class OwnTranscripts(OwnSounds):
    """Fields for the config of a script that takes recordings with their texts."""

    text: str | None = None
    """your table's column of what is said; by default the one called text, sentence, transcript, ..."""
    lower: bool = True
    """take the texts in lower case"""


def named(splits: Splits) -> Splits:
    """The spoken digits as words; see :func:`in_characters` for ``tokens`` and ``between``."""
    details = {**splits.info.details, "tokens": _DIGITS, "between": " "}
    return dataclasses.replace(splits, info=dataclasses.replace(splits.info, details=details))


def read(source: Any, own: OwnTranscripts) -> Found:
    """A table of path and text (csv, tsv, JSON lines; a folder of train.tsv, dev.tsv, test.tsv and clips/ as
    Common Voice has it); LibriSpeech's ``*.trans.txt`` beside the recordings; or a text file beside each one.

    Texts are in Unicode's NFC with single spaces. ``info.details`` has the ``rate`` in Hz.
    """
    listed = _beside(source, own.encoding) if isinstance(source, Path) and source.is_dir() else None
    if listed is None:
        listed = listed_in(source, own, own.text, _TEXTS, "--text")
    said = [" ".join(unicodedata.normalize("NFC", text).split()) for text in listed.said]
    listed = dataclasses.replace(listed, said=[t.lower() for t in said] if own.lower else said)
    spoken = np.flatnonzero([bool(text) for text in listed.said])
    if len(spoken) < len(listed.said):
        line = Line(
            "skipped", f"{len(listed.said) - len(spoken):,} recordings", "they have no text"
        )
        listed = listed.only(spoken, line)
    rows, listed, info = read_sounds(listed, own, getattr(source, "name", "the table"), cut=False)
    counts = Counter("".join(listed.said))
    how = "in lower case (--no-lower keeps it)" if own.lower else "as written"
    shown = " ".join(c if c.strip() else "(space)" for c in sorted(counts))[:200]
    lines = (
        *listed.lines,
        Line("text", how, f"{span([*map(len, listed.said)])} characters"),
        Line("characters", f"{len(counts)}", shown),
    )
    text = np.array(listed.said, object)
    names, said = short_names(listed.paths), rows | {"text": text}
    return Found(said, info, lines, listed.part, group=listed.group, names=names)


def _beside(folder: Path, encoding: str | None) -> Listed | None:
    """Texts beside the recordings, in ``*.trans.txt`` or in a file for each; None where a table has them."""
    books = files_under(folder, (".trans.txt",))
    if not books and any(ends(path, TABLES) for path in visible(folder)):
        return None
    sounds = files_under(folder, SOUNDS)
    told: dict[tuple[Path, str], str] = {}
    told_by = [*books]
    for book in books:
        for line in text_of(folder / book, encoding).splitlines():
            name, _, text = line.partition(" ")
            told[book.parent, name] = text
    if not books:
        for path in sounds:
            if (beside := folder / path.with_suffix(".txt")).is_file():
                told[path.parent, path.stem] = text_of(beside, encoding)
                told_by.append(path.with_suffix(".txt"))
    paths = [path for path in sounds if (path.parent, path.stem) in told]
    if not paths:
        layout = "a table of path and text, LibriSpeech's *.trans.txt, or a text file beside each recording"
        raise no_sounds(folder, layout)
    lines = []
    if len(paths) < len(sounds):
        lines.append(
            Line("skipped", f"{len(sounds) - len(paths):,} recordings", "no text is beside them")
        )
    part, _ = by_first_folder(paths)
    texts = [told[path.parent, path.stem] for path in paths]
    digests = {"texts": digest_files([folder / path for path in told_by])}
    files = [folder / path for path in paths]
    return Listed(files, texts, part, lines=tuple(lines), digests=digests)


def in_characters(splits: Splits, frame: float = 0.04) -> Splits:
    """``splits`` with the texts as ``label [n, longest]`` int32, each character by its place among those of the
    training texts and -1 where a text has ended; ``info.details["tokens"]`` has them, and at their end
    :data:`UNKNOWN` for what other texts hold more, and ``"between"`` what stands between them in a text.

    A recording with fewer frames than its text needs (one a character, one more between two alike), which no
    alignment fits, is left out, with a warning that counts them.

    Args:
      frame: seconds of one output of the recogniser.
    """
    texts = {name: known(part)["text"] for name, part in splits.parts.items()}
    tokens = tuple(sorted(set("".join(texts["train"]))))
    place = {character: number for number, character in enumerate(tokens)}
    longest = max(len(text) for part in texts.values() for text in part)
    fast = 0

    def labelled(part: Any) -> Any:
        nonlocal fast
        columns = known(part)
        label = np.full((len(columns["text"]), longest), -1, np.int32)
        for row, text in enumerate(columns["text"]):
            label[row, : len(text)] = [place.get(character, len(tokens)) for character in text]
        needed = (label >= 0).sum(1) + ((label[:, 1:] == label[:, :-1]) & (label[:, 1:] >= 0)).sum(
            1
        )
        fits = needed <= columns["length"] / splits.info.details["rate"] / frame
        fast += int((~fits).sum())
        rows = {n: v[fits] for n, v in columns.items() if n != "text"} | {"label": label[fits]}
        return rows if isinstance(part, dict) else dataclasses.replace(part, columns=rows)

    parts: Any = {name: labelled(part) for name, part in splits.parts.items()}
    done = dataclasses.replace(splits, **parts)
    if not len(known(done.train)["label"]):
        raise UserError(
            "part-empty",
            f"{splits.info.title}: every text has more characters than its recording has frames of {frame:g} s: "
            "are paths and texts in the right columns?",
        )
    if fast:
        warnings.warn(
            f"{splits.info.title}: {fast:,} recordings are left out, whose texts have more characters than they "
            f"have frames of {frame:g} s",
            stacklevel=2,
        )
    details = {**splits.info.details, "tokens": (*tokens, UNKNOWN)}
    info = dataclasses.replace(splits.info, details=details | {"between": ""})
    return dataclasses.replace(done, info=info)
