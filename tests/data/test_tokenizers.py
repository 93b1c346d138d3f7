"""Vocabularies and tokenizers give text back, and are the same after saving."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.data import tokenizers as text
from dl.data.splits import Info, Splits
from dl.data.tokenized import tokenized

SENTENCES = ["the cat sat on the mat", "the dog sat on the log", "cats and dogs: ein Mädchen!"] * 4


@settings(max_examples=50, deadline=None)
@given(sample=st.text(min_size=1, max_size=60))
def test_characters_round_trip(sample):
    vocabulary = text.characters(sample)
    assert vocabulary.decode(vocabulary.encode(sample)) == sample
    assert vocabulary.encode(sample).dtype == np.int32


def test_an_array_of_characters_encodes_as_its_string():
    vocabulary = text.characters("hello world")
    array = np.array(list("low"), "<U1")
    np.testing.assert_array_equal(vocabulary.encode(array), vocabulary.encode("low"))
    with raises("symbol-unknown", "'z'", "8 symbols"):
        vocabulary.encode("zoo")


def test_words_are_ranked_and_the_unknown_is_marked():
    vocabulary = text.words(SENTENCES, min_count=5)
    assert vocabulary.symbols[: len(text.SPECIALS)] == text.SPECIALS
    assert vocabulary.symbols[7] == "the"
    assert vocabulary.encode("the zebra").tolist() == [7, text.UNK]
    assert vocabulary.decode([7, text.PAD]) == "the"
    assert len(text.words(SENTENCES, size=9)) == 9


def test_vocabularies_are_saved_as_json(tmp_path):
    vocabulary = text.words(SENTENCES)
    vocabulary.save(tmp_path / "run" / "words.json")
    assert text.load_vocabulary(tmp_path / "run" / "words.json") == vocabulary
    numbers = '{"symbols": ["a", 1], "level": "word"}'
    for bad in ("[]", numbers, "[" * 10**5):
        (tmp_path / "bad.json").write_text(bad)
        with raises("tokenizer-file", "vocabulary"):
            text.load_vocabulary(tmp_path / "bad.json")


def test_padding_keeps_what_was_there():
    columns = text.pad([[7, 8, 9], [7]], start=text.BOS, end=text.EOS)
    assert columns["tokens"].tolist() == [[2, 7, 8, 9, 3], [2, 7, 3, 0, 0]]
    assert columns["tokens_length"].tolist() == [5, 3]


def test_nothing_is_cut_silently():
    with raises("text-too-long", "5 tokens", "4 are allowed"):
        text.pad([[7, 8, 9]], 4, start=text.BOS, end=text.EOS)
    columns = text.pad([[7, 8, 9]], 4, start=text.BOS, end=text.EOS, truncate=True, name="source")
    assert columns["source"].tolist() == [[2, 7, 8, 3]]
    assert columns["source_length"].tolist() == [4]


@pytest.fixture(scope="module")
def bpe():
    pytest.importorskip("tokenizers")
    return text.train_subwords(SENTENCES, "bpe", 320)


def test_byte_level_bpe_loses_nothing(bpe):
    for sample in ("the cat sat", "  odd   spaces ", "Ünseen ✓ text\n"):
        (ids,) = text.encode_all(bpe, [sample])
        assert bpe.decode(ids) == sample
        assert min(ids) >= len(text.SPECIALS)


def test_special_symbols_have_their_numbers_in_every_tokenizer(bpe):
    wordpiece = text.train_subwords(SENTENCES, "wordpiece", 80, lowercase=True)
    for tokenizer in (bpe, wordpiece):
        assert [tokenizer.token_to_id(s) for s in text.SPECIALS] == list(range(7))
    (ids,) = text.encode_all(wordpiece, ["The CAT"])
    assert wordpiece.decode(ids) == "the cat"


def test_wordpiece_tells_beginnings_from_continuations():
    tokenizer = text.train_subwords(SENTENCES, "wordpiece", 80, lowercase=True)
    (ids,) = text.encode_all(tokenizer, ["cats ☃"])
    pieces = [tokenizer.id_to_token(i) for i in ids]
    assert pieces[0].startswith("c")
    assert all(piece.startswith("##") for piece in pieces[1:-1])
    assert pieces[-1] == "[UNK]"
    assert "".join(piece.removeprefix("##") for piece in pieces[:-1]) == "cats"
    assert max(tokenizer.get_vocab().values()) == tokenizer.get_vocab_size() - 1 <= 79


def test_tokenizers_are_the_same_after_saving(bpe, tmp_path):
    bpe.save(str(tmp_path / "bpe.json"))
    loaded = text.load_subwords(tmp_path / "bpe.json")
    assert text.encode_all(loaded, SENTENCES) == text.encode_all(bpe, SENTENCES)
    with raises("tokenizer-file", "absent.json is missing"):
        text.load_subwords(tmp_path / "absent.json")


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_training_is_the_same_in_every_process(kind, bpe):
    code = (
        "import hashlib; from dl.data.tokenizers import train_subwords;"
        f"t = train_subwords({SENTENCES!r}, {kind!r}, 300);"
        "print(hashlib.sha256(t.to_str().encode()).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout


def test_an_unknown_kind_is_named(bpe):
    with raises("unknown", "tokenizer 'bpee'", "'bpe'"):
        text.train_subwords(SENTENCES, "bpee", 100)


def test_splits_of_text_become_splits_of_tokens():
    part = {"text": np.array(["a b a", "b"], object), "label": np.array([1, 0], np.int32)}
    splits = Splits(part, {}, part, Info("x", *5 * [""]))
    found = tokenized(splits, text.words(part["text"], min_count=1), 4, end=2)
    assert found.validation == {}
    assert set(found.train) == {"tokens", "tokens_length", "label"}
    assert found.train["tokens"].shape == (2, 4)
    assert found.train["tokens_length"].tolist() == [4, 2]
    assert found.test["tokens"][:, [3, 1]].tolist()[0][0] == 2


def test_a_pattern_that_takes_for_ever_is_told(bpe):
    saved = json.loads(bpe.to_str())
    pattern = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "invert": False}
    saved["pre_tokenizer"] = {**pattern, "behavior": "Isolated"}
    slow = text.Subwords(type(bpe).from_str(json.dumps(saved)))
    with raises("tokenizer-file", "'aaaa", "another tokenizer"):
        slow.encode("a" * 40 + "b")


def test_a_file_does_not_say_how_long_rows_are(bpe, tmp_path):
    saved = json.loads(bpe.to_str())
    ends = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0}
    saved["padding"] = {**ends, "pad_token": "[PAD]", "strategy": {"Fixed": 2**40}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    (ids,) = text.encode_all(text.load_subwords(tmp_path / "tokenizer.json"), ["the cat"])
    assert bpe.decode(ids) == "the cat"
