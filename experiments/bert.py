"""BERT: a Transformer pre-trained to guess hidden words, then fine-tuned to judge sentences.

Data: SST-2, sentence level. First the text of its training set alone for the pre-training
  --stage pretrain --name guess
then its labels, from those weights or (without --start) from scratch
  --stage finetune --start runs/guess
An imported BERT takes the place of both with --weights FOLDER, its tokenizer.json inside.
Reference: 82.7 % from scratch, though trained on the phrases too (Kim 2014, CNN-rand).
"""

import dataclasses
import functools
from typing import Literal

import dl
from dl import interop
from dl.core.errors import need
from dl.core.transforms import initialized_from
from dl.data import load
from dl.data.batches import eval_batches
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.tokenizers import encode_all, load_subwords, pad, specials, train_subwords
from dl.models.language import LanguageModel, TextClassifier
from dl.models.transformer import Transformer
from dl.tasks.masked_language_modeling import masked_language_modeling
from dl.tasks.sequence_classification import sequence_classification


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    stage: Literal["pretrain", "finetune"] = "finetune"
    start: str | None = None
    """folder of a pre-training run to begin from; it must be of the same architecture"""
    weights: str | None = None
    """folder of a BERT in Hugging Face's layout, in place of vocabulary, width, layers and heads"""
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    vocabulary: int = 8000
    """WordPiece tokens, trained on the training set's text"""
    width: int = 128
    layers: int = 2
    heads: int = 4
    positions: int = 80
    """most tokens of a sentence"""
    dropout: float = 0.2
    head_dropout: float = 0.5
    """rate before the classifier"""
    rate: float = 0.15
    """share of tokens hidden in pre-training"""
    word_dropout: float = 0.1
    """share of tokens replaced by the unknown one in fine-tuning"""
    label_smoothing: float = 0.1
    steps: int = 1100
    """108 are one pass over the training set; pre-training wants many more"""
    schedule: dl.ScheduleName = "linear"
    warmup_percent: int = 10
    weight_decay: float = 1e-2
    ema: float | None = 0.99
    members: int = 1
    """networks whose outputs are averaged"""


@functools.cache
def prepare(data_dir: str | None, size: int, length: int, weights: str | None):
    """``(tokenizer, training, validation and test columns)``."""
    splits = load("sst2", data_dir)
    if weights is None:
        tokenizer = train_subwords(splits.train["text"], "wordpiece", size)
    else:
        tokenizer = load_subwords(f"{weights}/tokenizer.json")
    special, parts = specials(tokenizer), []
    for part in (splits.train, splits.validation, splits.test):
        tokens = encode_all(tokenizer, part["text"])
        parts.append(
            pad(tokens, length, start=special.start, end=special.end) | {"label": part["label"]}
        )
    return tokenizer, *parts


@functools.cache
def learned(folder: str):
    """The parameters that a run selected; an imported BERT's output is no part of the encoder."""
    params = dl.open_run(folder).state.eval_variables["params"]
    return {name: tree for name, tree in params.items() if name != "output"}


def build(config: Config) -> dl.Experiment:
    need("tokenizers", extra="text", why="cutting text into subwords")
    tokenizer, train, validation, test = prepare(
        config.data_dir, config.vocabulary, config.positions, config.weights
    )
    size, special, pretrain = (
        tokenizer.get_vocab_size(),
        specials(tokenizer),
        config.stage == "pretrain",
    )
    if config.weights is not None:
        kind = "BertForMaskedLM" if pretrain else "BertForSequenceClassification"
        options = {"architecture": kind, "classes": 2, "vocabulary": size}
        model, given = interop.load(config.weights, dropout=config.dropout, **options)
    else:
        body = Transformer(config.width, config.layers, config.heads, dropout=config.dropout)
        model, given = LanguageModel(size, body, config.positions), {}
        model = model if pretrain else TextClassifier(model, 2)
    if pretrain:
        task = masked_language_modeling(
            model, size, rate=config.rate, mask_token=special.mask, first=special.first
        )
    else:
        task = sequence_classification(
            model.clone(dropout=config.head_dropout),
            label_smoothing=config.label_smoothing,
            word_dropout=config.word_dropout,
            unknown=special.unknown,
            first=special.first,
        )
    task = initialized_from(task, given)
    if config.start is not None:
        task = initialized_from(task, encoder=learned(config.start))
    if config.members != 1:
        task = dl.ensemble(task, config.members)

    return config.experiment(
        task,
        bucket_batches(train, train["tokens_length"], config.batch_size, config.seed),
        trim=trim(["tokens"], (20, 36), lambda batch: batch["tokens_length"].max()),
        steps=config.steps,
        evals={"validation": eval_batches(validation, 128)},
        tests={"test": eval_batches(test, 128)},
        select="-validation/loss" if pretrain else "validation/accuracy",
    )


if __name__ == "__main__":
    dl.main(Config, build)
