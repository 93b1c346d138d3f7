"""BERT: a Transformer pre-trained to guess hidden words, then fine-tuned to judge sentences.

Data: SST-2, sentence level: the text of its training set alone for --stage pretrain --name guess, then its labels,
from those weights, --stage finetune --start runs/guess, or (without --start) from scratch.
Or your own with --data PATH: any text or tokens (`dl data tokens`) to pre-train on, labelled texts to fine-tune.
An imported BERT (--weights FOLDER, its tokenizer.json inside) takes the place of both. Reference: 82.7 % from
scratch, though trained on the phrases too (Kim 2014, CNN-rand).
"""

import dataclasses
from typing import Any, Literal

import dl
from dl.baselines.ngrams import unigram_scores
from dl.baselines.text import text_baselines
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.own.texts import NAMED, OwnTexts
from dl.data.own.units import open_lines
from dl.data.tokenized import tokenized
from dl.data.tokenizers import load_subwords, specials, train_subwords
from dl.models.language import LanguageModel, TextClassifier
from dl.models.transformer import Transformer
from dl.tasks.masked_language_modeling import masked_language_modeling
from dl.tasks.sequence_classification import sequence_classification


@dataclasses.dataclass(frozen=True)
class Config(OwnTexts, dl.Members, dl.Recipe):
    data: str = "sst2"
    """a named set, a table of texts and labels, or a folder of files a class; to pre-train plain text too"""
    stage: Literal["pretrain", "finetune"] = "finetune"
    weights: str | None = None
    """folder of a BERT in Hugging Face's layout, in place of vocabulary, width, layers and heads"""
    vocabulary: int = 8000
    """WordPiece tokens, trained on the training set's text or taken from the run of --start"""
    width: int = 128
    layers: int = 2
    heads: int = 4
    positions: int = 80
    """tokens of a text that are read"""
    dropout: float = 0.2
    head_dropout: float = 0.5
    """rate before the classifier"""
    rate: float = 0.15
    """share of tokens hidden in pre-training"""
    word_dropout: float = 0.1
    """share of tokens replaced by the unknown one in fine-tuning"""
    label_smoothing: float = 0.1
    steps: int | None = None
    """of training; by default 10 passes over the training set, and 1,000 or more; pre-training wants many more"""
    schedule: dl.ScheduleName = "linear"
    warmup_percent: int = 10
    weight_decay: float = 1e-2
    ema: float | None = 0.99


@dl.prepared
def sentences(config: Config):
    """The tokenizer (that of --start's run), all its tokens, the special ones, and the texts in tokens."""
    if config.stage == "finetune" or config.data in NAMED:
        splits = dl.data.open(config.data, "texts", config)
    else:
        splits = open_lines(config.data, text=config.text, encoding=config.encoding)
    if config.start is not None:
        begun = dl.open_run(config.start).experiment.config
        if not hasattr(begun, "stage"):
            told = f"{config.start} is no run of bert: name one"
            raise dl.UserError("weights-of-another-model", told)
        tokenizer = sentences(begun)[0]
    elif config.weights is None and not (tokenizer := splits.info.details.get("tokenizer")):
        tokenizer = train_subwords(splits.train["text"], "wordpiece", config.vocabulary)
    if config.weights is not None:
        tokenizer = load_subwords(f"{config.weights}/tokenizer.json")
    most, special = config.positions, specials(tokenizer)
    splits = tokenized(splits, tokenizer, most, most=most, start=special.start, end=special.end)
    words = [tokenizer.id_to_token(place) for place in range(tokenizer.get_vocab_size())]
    return tokenizer, words, special, splits


def build(config: Config) -> dl.Experiment:
    _, words, special, splits = sentences(config)
    pretrain, classes = config.stage == "pretrain", len(splits.info.classes)
    size, given = len(words), None
    if config.weights is not None:
        kind = "MaskedLM" if pretrain else "SequenceClassification"
        options = {"architecture": kind, "classes": classes, "vocabulary": size}
        model, given = dl.interop.load(config.weights, dropout=config.dropout, **options)
    else:
        body = Transformer(config.width, config.layers, config.heads, dropout=config.dropout)
        model = LanguageModel(size, body, config.positions)
        model = model if pretrain else TextClassifier(model, classes)
    if pretrain:
        hidden: Any = {"rate": config.rate, "mask_token": special.mask}
        task = masked_language_modeling(model, size, first=special.first, **hidden)
    else:
        model, rare = model.clone(dropout=config.head_dropout), special.unknown
        noise = {"label_smoothing": config.label_smoothing, "word_dropout": config.word_dropout}
        task = sequence_classification(model, unknown=rare, first=special.first, **noise)
    return config.experiment(
        dl.ensemble(dl.initialized_from(task, given), config.members),
        bucket_batches(splits.train, "tokens_length", config.batch_size, config.seed),
        trim=trim(["tokens"], (20, 36)),
        **dl.held_out(splits, 128),
        usual_epochs=10.175,  # 1,100 steps of SST-2
        select="-validation/loss" if pretrain else "validation/accuracy",
        baselines=lambda: (
            {"unigram": unigram_scores(splits, size, special.first)}
            if pretrain
            else text_baselines(dl.data.open(config.data, "texts", config))
        ),
        classes=() if pretrain else splits.info.classes,
        names={"tokens": words},
    )


if __name__ == "__main__":
    dl.main(Config, build)
