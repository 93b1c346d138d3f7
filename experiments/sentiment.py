"""Classes of texts, film reviews or genes: a convolutional network, a BiLSTM and a Transformer side by side.

Data: SST-2, sentence level, trained from scratch, no outside vectors; --data sst2_phrases trains on its phrases
too, as the reference does: 82.7 % for CNN-rand (Kim 2014); trec_questions (91.2 there); --data PATH, your texts.
All three: --sweep model=cnn,bilstm,transformer --seeds 3; several that answer together: --members 5
"""

import dataclasses
from typing import Any, Literal

import dl
from dl.baselines.text import text_baselines
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.own.texts import OwnTexts
from dl.data.tokenized import tokenized
from dl.data.tokenizers import counted, spaced
from dl.models.text import text_classifier
from dl.tasks.sequence_classification import sequence_classification


@dataclasses.dataclass(frozen=True)
class Config(OwnTexts, dl.Members, dl.Recipe):
    data: str = "sst2"
    """a named set, a table of texts and labels, or a folder of files a class"""
    model: Literal["cnn", "bilstm", "transformer"] = "cnn"
    unit: Literal["word", "character"] = "word"
    """what a token is; characters suit texts without blanks, such as DNA"""
    embedding: int = 128
    """width of the tokens' vectors, and of the Transformer"""
    features: int = 100
    """filters of each window (cnn) or units of each direction (bilstm)"""
    layers: int = 1
    """of the BiLSTM or the Transformer"""
    heads: int = 4
    dropout: float = 0.5
    """rate before the classifier, and inside the Transformer"""
    embedding_dropout: float = 0.3
    """rate on the tokens' vectors"""
    word_dropout: float = 0.1
    """share of tokens replaced by the unknown one in training"""
    label_smoothing: float = 0.1
    min_count: int = 2
    """a rarer token of the training set is unknown"""
    longest: int = 400
    """tokens of a text that are read"""
    batch_size: int = 50
    steps: int | None = None
    """of training; by default 12 passes over the training set, and 1,000 or more"""
    learning_rate: float | None = None
    """by default 3e-3 for cnn, whose filters learn slowly, and 1e-3 for the others"""
    warmup_percent: int = 10
    weight_decay: float = 1e-2
    ema: float | None = 0.99


@dl.prepared
def reviews(config: Config):
    """The tokens of the training set, and the texts as their numbers."""
    splits = dl.data.open(config.data, "texts", config)
    prepare = spaced if config.unit == "word" else str
    vocabulary = counted(
        config.unit, map(prepare, splits.train["text"]), min_count=config.min_count
    )
    return vocabulary.symbols, tokenized(splits, vocabulary, most=config.longest, prepare=prepare)


def build(config: Config) -> dl.Experiment:
    vocabulary, splits = reviews(config)
    classes = splits.info.classes
    sizes = config.embedding, config.features, config.layers, config.heads
    rates = config.dropout, config.embedding_dropout
    model = text_classifier(config.model, len(vocabulary), len(classes), *sizes, *rates)
    noise: Any = {"label_smoothing": config.label_smoothing, "word_dropout": config.word_dropout}
    if config.model == "cnn" and config.learning_rate is None:
        config = dataclasses.replace(config, learning_rate=3e-3)
    return config.experiment(
        dl.ensemble(sequence_classification(model, **noise), config.members),
        bucket_batches(splits.train, "tokens_length", config.batch_size, config.seed),
        trim=trim(["tokens"], (16, 28, 64, 128, 256)),
        **dl.held_out(splits, 128),
        usual_epochs=12.285,  # 1,700 steps of SST-2
        select="validation/accuracy",
        baselines=lambda: text_baselines(dl.data.open(config.data, "texts", config)),
        classes=classes,
        names={"tokens": vocabulary},
    )


if __name__ == "__main__":
    dl.main(Config, build)
