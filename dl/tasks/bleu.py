"""BLEU of translations (Papineni et al. 2002), as sacreBLEU computes it."""

from collections.abc import Sequence

from dl.core.errors import UserError


def corpus_bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """BLEU in 0..100 of detokenised text, one reference each, with sacreBLEU's defaults (tokenizer
    13a, case kept; Post 2018, "A call for clarity in reporting BLEU scores")."""
    try:
        import sacrebleu
    except ImportError:
        raise UserError(
            "BLEU needs the text extra: pip install 'dl[text]' (or pip install sacrebleu)"
        ) from None
    return float(sacrebleu.corpus_bleu(list(translations), [list(references)]).score)
