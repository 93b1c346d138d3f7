"""A text as numbers: the training text's characters, and nothing lost."""

import pytest

from dl.data import load
from dl.data.sets.characters import load_characters


@pytest.mark.data
def test_shakespeare_survives_the_round_trip(data_dir):
    vocabulary, train, held = load_characters("tinyshakespeare", str(data_dir))
    assert (len(vocabulary), len(train), len(held)) == (65, 1003854, 111540)
    text = load("tinyshakespeare", data_dir).validation["text"]
    assert vocabulary.decode(held[:200]) == "".join(text[:200])
