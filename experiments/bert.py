"""BERT: a Transformer pre-trained to guess hidden words, then fine-tuned to judge sentences.

Data: SST-2, sentence level. First the text of its training set alone for the pre-training
  --stage pretrain --name guess
then its labels, from those weights or (without --start) from scratch
  --stage finetune --start runs/guess
An imported BERT takes the place of both with --weights FOLDER, its tokenizer.json inside.
Reference: 82.7 % from scratch, though trained on the phrases too (Kim 2014, CNN-rand).
"""

import dataclasses
from typing import Any, Literal

import dl
from dl.core.transforms import initialized_from
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.tokenizers import load_subwords, specials, tokenized, train_subwords
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


@dl.prepared
def sentences(config: Config):
    """The tokenizer, and SST-2 in its tokens."""
    splits = dl.load("sst2")
    if config.weights is None:
        tokenizer = train_subwords(splits.train["text"], "wordpiece", config.vocabulary)
    else:
        tokenizer = load_subwords(f"{config.weights}/tokenizer.json")
    ends = {"start": specials(tokenizer).start, "end": specials(tokenizer).end}
    return tokenizer, tokenized(splits, tokenizer, config.positions, **ends)


@dl.prepared
def learned(config: Config):
    """The parameters that a run selected; an imported BERT's output is no part of the encoder."""
    params = dl.open_run(str(config.start)).state.eval_variables["params"]
    return {name: tree for name, tree in params.items() if name != "output"}


def build(config: Config) -> dl.Experiment:
    tokenizer, splits = sentences(config)
    size, special = tokenizer.get_vocab_size(), specials(tokenizer)
    pretrain = config.stage == "pretrain"
    if config.weights is not None:
        kind = "BertForMaskedLM" if pretrain else "BertForSequenceClassification"
        options = {"architecture": kind, "classes": 2, "vocabulary": size}
        model, given = dl.interop.load(config.weights, dropout=config.dropout, **options)
    else:
        body = Transformer(config.width, config.layers, config.heads, dropout=config.dropout)
        model, given = LanguageModel(size, body, config.positions), None
        model = model if pretrain else TextClassifier(model, 2)
    if pretrain:
        hidden: Any = {"rate": config.rate, "mask_token": special.mask}
        task = masked_language_modeling(model, size, first=special.first, **hidden)
    else:
        model, rare = model.clone(dropout=config.head_dropout), special.unknown
        noise = {"label_smoothing": config.label_smoothing, "word_dropout": config.word_dropout}
        task = sequence_classification(model, unknown=rare, first=special.first, **noise)
    task = initialized_from(task, given)
    if config.start is not None:
        task = initialized_from(task, encoder=learned(config))
    return config.experiment(
        dl.ensemble(task, config.members),
        bucket_batches(splits.train, "tokens_length", config.batch_size, config.seed),
        trim=trim(["tokens"], (20, 36)),
        **dl.held_out(splits, 128),
        select="-validation/loss" if pretrain else "validation/accuracy",
    )


if __name__ == "__main__":
    dl.main(Config, build)
