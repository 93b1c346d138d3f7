"""ROUGE of summaries (Lin 2004), as the package rouge-score computes it."""

from collections.abc import Sequence

import numpy as np

from dl.core.errors import need
from dl.scores.paired import paired

KINDS = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l"}


def rouge(summaries: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """F1 in 0..100 of each summary, one reference each, by Porter's stems: ``rouge_1``, ``rouge_2`` (words and
    pairs of words in common) and ``rouge_l`` (the longest common subsequence), ``[rows]``.

    Raises:
      UserError: not as many references as summaries, or rouge-score is not installed.
    """
    summaries, references = paired(summaries=summaries, references=references)
    scorer = need("rouge_score.rouge_scorer", extra="text", why="ROUGE")
    by_row = scorer.RougeScorer(list(KINDS), use_stemmer=True)
    found = [by_row.score(*pair) for pair in zip(references, summaries, strict=True)]
    return {
        ours: np.array([100 * row[theirs].fmeasure for row in found])
        for theirs, ours in KINDS.items()
    }
