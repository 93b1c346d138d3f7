"""A text as character numbers, for language models."""

import functools

import numpy as np

from dl.data.catalogue import load
from dl.data.text import Vocabulary, characters


@functools.cache
def load_characters(
    name: str, data_dir: str | None = None
) -> tuple[Vocabulary, np.ndarray, np.ndarray]:
    """``(vocabulary, training, validation)`` of a data set with a column ``text``: the vocabulary is
    the training text's characters, the two texts are int32 ``[characters]``."""
    splits = load(name, data_dir)
    vocabulary = characters(splits.train["text"])
    train, held = (vocabulary.encode(part["text"]) for part in (splits.train, splits.validation))
    return vocabulary, train, held
