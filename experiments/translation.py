"""Translation, such as from English to German, with beam search: a Transformer or an attention RNN.

Data: Multi30k, task 1, or your own pairs of any two languages with --data PATH; byte-pair encoding trained on
the training set, one vocabulary for both sides.
Reference: sacreBLEU 36 and more on test2016 for small Transformers trained on this set alone. The attention RNN is
that of Bahdanau et al. 2015, its layers those of Wu et al. 2016.
"""

import dataclasses
from typing import Any, Literal

import numpy as np

import dl
from dl.baselines.word_by_word import translation_baselines
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.own.pairs import OwnPairs
from dl.data.tokenized import subword_pairs
from dl.figures.sequences import translated
from dl.models.attention_rnn import translator
from dl.scores.bleu import corpus_bleu
from dl.tasks.sequence_to_sequence import sequence_to_sequence


@dataclasses.dataclass(frozen=True)
class Config(OwnPairs, dl.Recipe):
    data: str = "multi30k"
    """a named set, a table of two columns of text, a folder with two files of lines, or one of these files"""
    model: Literal["transformer", "attention-rnn"] = "transformer"
    """attention alone, or GRUs with attention between them"""
    vocabulary: int = 6000
    """byte-pair tokens for both languages together"""
    width: int = 128
    layers: int = 3
    """of the encoder, and of the decoder"""
    heads: int = 4
    """of the transformer's attention"""
    hidden: int = 256
    """width inside the transformer's feed-forward"""
    dropout: float = 0.15
    label_smoothing: float = 0.1
    longest: int = 128
    """tokens of a sentence that are read"""
    batch_size: int = 128
    steps: int | None = None
    """of training; by default 20 passes over the training set, and 1,000 or more"""
    sizes: tuple[int, ...] = (16, 24)
    """tokens that a batch of short sentences is cut to; each is a compiled branch of its own"""
    learning_rate: float = 3e-3
    warmup_percent: int = 10
    weight_decay: float = 1e-2
    b2: float = 0.98
    ema: float | None = 0.995
    beams: int = 5
    length_penalty: float = 0.8


def build(config: Config) -> dl.Experiment:
    own = config.heads, config.hidden
    if config.model != "transformer" and own != (Config.heads, Config.hidden):
        said = "--heads and --hidden are of the transformer: leave them out"
        raise dl.UserError("option-misplaced", said)
    dl.need("sacrebleu", extra="text", why="BLEU")
    tokenizer, texts = subword_pairs(config)
    splits = texts.only("source", "source_length", "target", "target_length")
    written = {name: list(part["written"]) for name, part in texts.parts.items()}
    sizes = config.width, config.layers, *own
    model = translator(config.model, tokenizer.get_vocab_size(), *sizes, config.dropout)
    search: Any = {"beams": config.beams, "length_penalty": config.length_penalty}
    length, smoothing = splits.train["target"].shape[1], config.label_smoothing
    task = sequence_to_sequence(model, length=length, label_smoothing=smoothing, **search)

    def measure(predictor, columns, name):
        said = tokenizer.decode_batch(predictor(columns).tolist())
        return {"bleu": corpus_bleu(said, written[name])}

    lengths = np.maximum(splits.train["source_length"], splits.train["target_length"])
    return config.experiment(
        task,
        bucket_batches(splits.train, lengths, config.batch_size, config.seed),
        trim=trim(["source", "target"], config.sizes),
        **dl.held_out(splits, 128),
        usual_epochs=20.305,  # 4,600 steps of Multi30k
        select="validation/bleu",
        measure=measure,
        answer=lambda own, rows: {"text": tokenizer.decode_batch(own(rows).tolist())},
        baselines=lambda: translation_baselines(dl.data.open(config.data, "pairs", config)),
        views=lambda predictor: translated(predictor, model, tokenizer, splits.validation),
    )


if __name__ == "__main__":
    dl.main(Config, build)
