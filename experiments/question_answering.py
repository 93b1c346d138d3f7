"""Questions about stories: one network reads the sentences, and answers by a word or chooses among answers.

Data: bAbI, 19 tasks trained together (10,000 questions each), whose errors are told by task; mctest, stories for
children with four answers to choose from; --data FILE, your table of stories, questions and answers.
"""

import dataclasses

import numpy as np

import dl
from dl.baselines.stories import story_baselines
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.own.questions import OwnQuestions
from dl.data.tokenized import tokenized_stories
from dl.data.tokenizers import counted, spaced
from dl.models.stories import StoryReader
from dl.tasks.classification import classification


@dataclasses.dataclass(frozen=True)
class Config(OwnQuestions, dl.Recipe):
    data: str = "babi"
    """babi, mctest, or a table of your own with a row a question"""
    sentences: int = 64
    """of a story that are read, its last ones"""
    words: int = 12
    """of a sentence that are read"""
    width: int = 64
    hops: int = 4
    """how often the layer is applied"""
    heads: int = 4
    dropout: float = 0.0
    min_count: int = 1
    """a rarer word of the training set is unknown"""
    batch_size: int = 128
    epochs: float = 20
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    ema: float | None = 0.999


@dl.prepared
def stories(config: Config):
    """The words of the training set, and the stories as their numbers."""
    splits = dl.data.open(config.data, "questions", config)
    train = splits.train
    told = {line for text in train["story"] for line in text.split("\n")}
    told |= {*train["question"], *train.get("choices", np.zeros(0, str)).reshape(-1).tolist()}
    vocabulary = counted("word", map(spaced, sorted(told)), min_count=config.min_count)
    return vocabulary.symbols, tokenized_stories(splits, vocabulary, config.sentences, config.words)


def by_task(predictor, columns, name) -> dict[str, float]:
    """The error of each task, and their mean."""
    if "task" not in columns:
        return {}
    wrong = np.argmax(predictor(columns), -1) != columns["label"]
    tasks = np.unique(columns["task"])
    each = {f"error_{n}": float(wrong[columns["task"] == n].mean()) for n in tasks}
    return {"mean_error": sum(each.values()) / len(each), **each}


def build(config: Config) -> dl.Experiment:
    vocabulary, splits = stories(config)
    choices = ("choices",) if "choices" in splits.train else ()
    sizes = config.sentences, config.words, config.width, config.hops, config.heads
    model = StoryReader(len(vocabulary), len(splits.info.classes), *sizes, config.dropout)
    columns = ("story", "question", *choices)
    return config.experiment(
        classification(model, inputs=columns, prepare=lambda rows: rows),
        bucket_batches(splits.train, "story_length", config.batch_size, config.seed),
        trim=trim(["story"], (6, 12, 32)),
        **dl.held_out(splits, 500),
        select="validation/accuracy",
        classes=splits.info.classes,
        names={"question": vocabulary},
        measure=by_task,
        baselines=lambda: story_baselines(dl.data.open(config.data, "questions", config)),
    )


if __name__ == "__main__":
    dl.main(Config, build)
