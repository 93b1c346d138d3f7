"""BLEU of translations (Papineni et al. 2002), as sacreBLEU computes it."""

from collections.abc import Sequence

from dl.core.errors import need
from dl.scores.paired import paired


def corpus_bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """BLEU in 0..100 of detokenised text, one reference each, with sacreBLEU's defaults (tokenizer
    13a, case kept; Post 2018, "A call for clarity in reporting BLEU scores").

    NaN where there is no translation, or no word in any reference.

    Raises:
      UserError: not as many references as translations, or sacreBLEU is not installed.
    """
    translations, references = paired(translations=translations, references=references)
    sacrebleu = need("sacrebleu", extra="text", why="BLEU")
    if not any(reference.strip() for reference in references):
        return float("nan")
    return float(sacrebleu.corpus_bleu(translations, [references]).score)
