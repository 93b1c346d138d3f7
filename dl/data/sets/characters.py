"""A text as numbers of its characters or subwords, for language models."""

import functools
from pathlib import Path

import numpy as np

from dl.data.readers.files import data_folder
from dl.data.sets.catalogue import load
from dl.data.tokenizers import Subwords, Vocabulary, characters, load_subwords


def load_characters(
    name: str, data_dir: str | None = None, folder: str | None = None
) -> tuple[Vocabulary | Subwords, np.ndarray, np.ndarray]:
    """``(vocabulary, training, validation)`` of a data set with a column ``text``: the vocabulary is
    the training text's characters, the two texts are int32 ``[characters]``.

    Args:
      folder: of an imported model; where a ``tokenizer.json`` lies there, its subwords take the
        characters' place.
    """
    return _encoded(name, data_folder(data_dir), folder)


@functools.lru_cache(maxsize=4)
def _encoded(name: str, data_dir: Path, folder: str | None):
    splits = load(name, data_dir)
    path = Path(folder) / "tokenizer.json" if folder is not None else None
    if path is not None and path.exists():
        vocabulary: Vocabulary | Subwords = Subwords(load_subwords(path))
    else:
        vocabulary = characters(splits.train["text"])
    train, held = (vocabulary.encode(part["text"]) for part in (splits.train, splits.validation))
    return vocabulary, train, held
