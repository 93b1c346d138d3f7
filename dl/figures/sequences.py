"""What was said for a sequence, and where the network looked."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dl.figures.pictures import attention_maps
from dl.scores.rouge import rouge


def taken_for(truth: np.ndarray, said: np.ndarray, classes: Sequence[str]) -> str:
    """How often each class was taken for which, a line each, by the labels ``truth`` and ``said [rows]``."""
    table = np.zeros((len(classes), len(classes)), int)
    np.add.at(table, (truth, said), 1)
    counts = [" ".join(f"{n:3}" for n in row) for row in table]
    lines = [f"{name}: {row}" for name, row in zip(classes, counts, strict=True)]
    return "\n".join([f"spoken: taken for {' '.join(classes)}", *lines])


def translated(
    predictor: Any, model: Any, tokenizer: Any, held: Any, count: int = 8
) -> dict[str, Any]:
    """Views of some rows of ``held``: ``translations``, each a source, what is said for it, and the truth; and
    ``attention``, where the decoder's last layer looks in the source of the last of them.

    Args:
      predictor: gives tokens of rows of ``held``; model: has ``attention(variables, source, target)``.
      tokenizer: of the ``tokenizers`` library.
      held: columns ``source`` and ``target [n, tokens]``, with their lengths.
    """
    rows = np.linspace(0, min(128, len(held["target"])) - 1, count).astype(int)
    few = {name: values[rows] for name, values in held.items()}
    sides = few["source"], predictor(few), few["target"]
    texts = [tokenizer.decode_batch(side.tolist()) for side in sides]
    source, target = (few[n][-1, : few[f"{n}_length"][-1]] for n in ("source", "target"))
    looks = model.attention(predictor.variables, source, target)
    tokens = [list(map(tokenizer.id_to_token, side.tolist())) for side in (target, source)]
    return {
        "translations": "\n\n".join(map("\n".join, zip(*texts, strict=True))),
        "attention": attention_maps(looks, *tokens),
    }


def summarised(
    predictor: Any, tokenizer: Any, held: Any, written: Sequence[str], most: int = 128
) -> dict[str, str]:
    """A view of the first ``most`` rows of ``held``: ``summaries`` of the shortest text, the longest, and those
    with the least and the most ROUGE-L, each with what was written for it.

    Args:
      predictor: gives tokens of rows of ``held``, which has the column ``source``; tokenizer: of these.
      written: the summaries as they are written.
    """
    few = {name: values[:most] for name, values in held.items()}
    said = tokenizer.decode_batch(predictor(few).tolist())
    source = tokenizer.decode_batch(few["source"].tolist())
    score = rouge(said, written[: len(said)])["rouge_l"]
    size = [len(text) for text in source]
    order = np.argsort(score, kind="stable")
    shown = {
        "shortest text": [int(np.argmin(size))],
        "longest text": [int(np.argmax(size))],
        "worst": order[:4].tolist(),
        "best": order[-2:].tolist(),
    }
    lines = [
        f"{which}, ROUGE-L {score[row]:.0f}\n{source[row].strip()[:400]}\n"
        f"said: {said[row]}\nwritten: {written[row]}"
        for which, rows in shown.items()
        for row in rows
    ]
    return {"summaries": "\n\n".join(lines)}
