"""Questions about stories: ``story``, a sentence a line, ``question``, and ``label``, the answer's class, or its
place among ``choices [rows, choices]``."""

import dataclasses
import functools
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.own.classes import class_lines, coded
from dl.data.own.columns import (
    column_lines,
    group_of,
    joined,
    read_tables,
    split_column,
    taken,
    which_column,
)
from dl.data.own.found import Found, Line, OwnSheet, column_called, own_info, span
from dl.data.own.lines import text_table
from dl.data.readers.frames import Frame, words
from dl.data.sets.questions import column, sentences

NAMED = ("babi", "mctest")
OF_NAMED = ("story", "question", "label")
STORIES = ("story", "context", "passage", "article", "paragraph", "document", "text")
QUESTIONS = ("question", "query", "q")
ANSWERS = ("answer", "label", "correct", "target", "a")


@dataclasses.dataclass(frozen=True)
class OwnQuestions(OwnSheet):
    """Fields for the config of a script that takes questions about stories."""

    story: str | None = None
    """your column of stories; by default the one called story, context, passage, ..."""
    question: str | None = None
    """your column of questions; by default the one called question, query or q"""
    answer: str | None = None
    """your column of answers; by default the one called answer, label, correct, ..."""
    choices: tuple[str, ...] = ()
    """your columns of answers to choose from; by default every answer of the training rows is one"""


def read(source: Any, own: OwnQuestions) -> Found:
    """A table (csv, tsv, JSON lines, Parquet, a frame) of a row a question, or a folder of such by part.

    Questions about the same story are in one part, unless something else says the parts.

    Raises:
      UserError: a column cannot be told, or an answer is none of its choices.
    """
    frames, digests, lines = read_tables(source, functools.partial(text_table, own=own))
    first, split = frames[0][1], split_column(frames, own)
    used: dict[Any, Any] = {}
    called = {"story": STORIES, "question": QUESTIONS, "answer": ANSWERS}
    for name, guesses in called.items():
        given = getattr(own, name)
        heading = column_called(first, given, guesses, f"--{name}")
        if heading is None or heading in used:
            raise UserError(
                "column-unnamed", which_column(first, f"{name} of each row", f"--{name}")
            )
        used[heading] = taken(name, f"--{name}", given)
    heading_of = dict(zip(called, used, strict=True))
    for heading in own.choices:
        used[column_called(first, heading, (), "--choices")] = "a choice"
    used |= {split: "part"} if split else {}
    used |= {own.group: "groups"} if own.group else {}
    frame, part, more = joined(frames, split, None, list(used))
    cells = {name: _texts(frame, heading) for name, heading in heading_of.items()}
    choices = np.array([_texts(frame, heading) for heading in own.choices]).T
    kept = np.array([all(row) for row in zip(*cells.values(), strict=True)])
    if not kept.any():
        raise UserError(
            "table-empty", f"{frame.name} has no row with a story, a question and an answer"
        )
    cells = {
        name: [text for text, k in zip(x, kept, strict=True) if k] for name, x in cells.items()
    }
    rows: dict[str, np.ndarray] = {
        "story": column([sentences(text) for text in cells["story"]]),
        "question": column(cells["question"]),
    }
    lines += [*more, *column_lines(first, used)]
    if not kept.all():
        lines.append(
            Line("skipped", f"{(~kept).sum():,} rows", "a story, question or answer is empty")
        )
    if own.choices:
        classes, rows["choices"] = own.choices, choices[kept]
        rows["label"] = _chosen(frame.name, cells["answer"], own.choices, rows["choices"])
        lines.append(Line("choices", f"{len(classes)} a question"))
    else:
        classes, rows["label"] = coded(cells["answer"])
        lines += class_lines(classes, rows["label"], f"answers of {frame.name}", least=1.5)
    lines.append(Line("sentences a story", span([text.count("\n") + 1 for text in rows["story"]])))
    group = group_of(frame, own)
    if group is None:
        group = np.unique(rows["story"].astype(str), return_inverse=True)[1].reshape(-1)
    else:
        group = group[kept]
    info = own_info(frame.name, "question answering", digests, classes=tuple(classes))
    part = None if part is None else part[kept]
    return Found(rows, info, tuple(lines), part, group=group, place=np.flatnonzero(kept))


def _texts(frame: Frame, heading: str) -> list[str]:
    return ["" if word is None else str(word).strip() for word in words(frame, heading)]


def _chosen(
    name: str, said: list[str], headings: tuple[str, ...], choices: np.ndarray
) -> np.ndarray:
    """Which choice each answer is: by its text, its column, its letter, or its number from 1 on."""
    numbers = [str(n + 1) for n in range(len(headings))]
    letters = [chr(ord("A") + n) for n in range(len(headings))]
    found = []
    for row, answer in enumerate(said):
        for known in (choices[row].tolist(), [*headings], letters, numbers):
            if answer in known:
                found.append(known.index(answer))
                break
        else:
            raise UserError(
                "answer-unknown",
                f"{name}: the answer {answer!r} is none of its choices: give the text of one, its column "
                f"({', '.join(headings)}), or its letter ({letters[0]} to {letters[-1]})",
            )
    return np.array(found, np.int32)
