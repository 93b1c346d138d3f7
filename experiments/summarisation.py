"""Summarisation: a Transformer that writes a line about a text, and may copy words from it, by beam search.

Data: debian_synopses (package descriptions and their lines), or your own pairs of texts and summaries with --data
PATH; byte-pair encoding trained on the training set. The network is a pointer-generator (See et al. 2017).
Beside it the text's beginning: ROUGE-L 29.2 of test for the first 8 words, 27.7 for the first sentence.
"""

import dataclasses
from typing import Any

import numpy as np

import dl
from dl.baselines.lead import lead_baselines
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.own.pairs import OwnPairs
from dl.data.tokenized import subword_pairs
from dl.figures.sequences import summarised
from dl.models.copying import PointerGenerator
from dl.models.transformer import Transformer
from dl.scores.rouge import rouge
from dl.tasks.sequence_to_sequence import sequence_to_sequence


@dataclasses.dataclass(frozen=True)
class Config(OwnPairs, dl.Recipe):
    data: str = "debian_synopses"
    """a named set, a table of two columns of text, a folder with two files of lines, or one of these files"""
    vocabulary: int = 8000
    """byte-pair tokens for texts and summaries together"""
    width: int = 128
    layers: tuple[int, int] = (3, 2)
    """of the encoder, and of the decoder"""
    heads: int = 4
    hidden: int = 384
    """width inside the feed-forward"""
    dropout: float = 0.15
    label_smoothing: float = 0.1
    longest: int = 96
    """tokens of a text that are read, its first ones"""
    batch_size: int = 64
    steps: int | None = None
    """of training; by default 10 passes over the training set, and 1,000 or more"""
    sizes: tuple[int, ...] = (64,)
    """tokens that a batch of short texts is cut to; each is a compiled branch of its own"""
    learning_rate: float = 2e-3
    warmup_percent: int = 10
    weight_decay: float = 1e-2
    b2: float = 0.98
    ema: float | None = 0.998
    beams: int = 4
    length_penalty: float = 0.8
    no_repeat: int = 2
    """so many tokens come no second time in the same order; 0 lets them"""


def build(config: Config) -> dl.Experiment:
    dl.need("rouge_score", extra="text", why="ROUGE")
    tokenizer, rows = subword_pairs(config)
    splits = rows.only("source", "source_length", "target", "target_length")
    written = {name: list(part["written"]) for name, part in rows.parts.items()}
    sizes: dict[str, Any] = {"hidden": config.hidden, "rope": 10000.0, "dropout": config.dropout}
    encoder, decoder = (Transformer(config.width, n, config.heads, **sizes) for n in config.layers)
    vocabulary = tokenizer.get_vocab_size()
    model = PointerGenerator(vocabulary, encoder, decoder.clone(causal=True, cross=True))
    search: Any = {"length_penalty": config.length_penalty, "no_repeat": config.no_repeat}
    length, smoothing = splits.train["target"].shape[1], config.label_smoothing
    task = sequence_to_sequence(
        model, length, label_smoothing=smoothing, beams=config.beams, **search
    )

    def measure(predictor, columns, name):
        scores = rouge(tokenizer.decode_batch(predictor(columns).tolist()), written[name])
        return {kind: float(each.mean()) for kind, each in scores.items()}

    lengths = np.maximum(splits.train["source_length"], splits.train["target_length"])
    return config.experiment(
        task,
        bucket_batches(splits.train, lengths, config.batch_size, config.seed),
        trim=trim(["source", "target"], config.sizes),
        **dl.held_out(splits, 64),
        usual_epochs=10,
        select="validation/rouge_l",
        measure=measure,
        answer=lambda own, rows: {"text": tokenizer.decode_batch(own(rows).tolist())},
        baselines=lambda: lead_baselines(dl.data.open(config.data, "pairs", config)),
        views=lambda own: summarised(own, tokenizer, splits.validation, written["validation"]),
    )


if __name__ == "__main__":
    dl.main(Config, build)
