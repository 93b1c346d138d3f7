"""A text's beginning: what a network that summarises has to be compared with."""

import re
from collections.abc import Callable

from dl.data.splits import Splits
from dl.scores.rouge import rouge

_ROWS = 5_000  # of a part, the first ones, so that it takes seconds


def lead_baselines(splits: Splits) -> dict[str, dict[str, float]]:
    """ROUGE of the first 8 words, the first 12, and the first sentence of each source.

    Args:
      splits: columns ``source`` and ``target`` of strings.
    """
    ways: dict[str, Callable[[str], str]] = {
        "first 8 words": lambda text: " ".join(text.split()[:8]),
        "first 12 words": lambda text: " ".join(text.split()[:12]),
        "first sentence": first_sentence,
    }
    found: dict[str, dict[str, float]] = {way: {} for way in ways}
    for name, part in splits.parts.items():
        if name == "train":
            continue
        source, target = (
            [str(text) for text in part[side][:_ROWS]] for side in ("source", "target")
        )
        for way, begin in ways.items():
            scores = rouge([begin(text) for text in source], target)
            found[way] |= {f"{name}/{kind}": float(each.mean()) for kind, each in scores.items()}
    return found


def first_sentence(text: str) -> str:
    """A text up to its first full stop, question or exclamation mark before white space, or its first line's end.

    >>> first_sentence("A tool, v1.2 or newer. It helps.")
    'A tool, v1.2 or newer.'
    """
    return re.split(r"(?<=[.!?])\s|\n", text.strip(), maxsplit=1)[0]
