"""Plain text of the user's own: nothing lost, nothing unseen a crash, and bits a byte that compare."""

import json

import jax
import numpy as np
import pytest
from mistakes import raises

from dl.core.metrics import compute
from dl.data import open as open_data
from dl.data.batches.resident import eval_batches
from dl.data.batches.tokens import strided
from dl.data.own.corpus import Units, encode
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.tasks.language_modeling import language_modeling

TEXT = (
    "".join(f"The {n} cats sat on Ännchen's mat, 2 x {n % 7}!\n\n" for n in range(60)) + "größer €"
)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT.replace("\n", "\r\n"), newline="", encoding="utf-8-sig")
    return path


def joined(part):
    return "".join(part["text"])


def test_the_last_tenth_is_validation(text):
    splits = open_data(text, "corpus")
    assert joined(splits.train) + joined(splits.validation) == TEXT
    assert len(joined(splits.validation)) == pytest.approx(len(TEXT) / 10, abs=60)
    assert not splits.test
    splits = open_data(text, "corpus", hold_out=(0.2, 0.1))
    assert "".join(map(joined, splits.parts.values())) == TEXT
    assert len(joined(splits.test)) == pytest.approx(len(TEXT) / 10, abs=60)
    with raises("hold-out-impossible", "1 document"):
        open_data(text, "corpus", in_order=False)


@pytest.mark.parametrize("unit", ["character", "word", "bpe"])
def test_tokens_say_the_text_again_and_know_their_bytes(text, unit):
    splits = open_data(text, "corpus")
    vocabulary, tokens = encode(splits, Units(unit))
    for name, part in tokens.parts.items():
        said, written = vocabulary.decode(part["tokens"]), joined(splits.parts[name])
        assert part["bytes"].sum() == len(written.encode())
        if unit == "bpe":
            assert said == written
        hidden = len(written.encode()) - len(said.replace("[UNK]", "").encode())
        assert part["spelled"].sum() == hidden
    assert ("[UNK]" in said) == (unit != "bpe")
    assert len(vocabulary.encode("日本 ß\n")) > 0


def test_wordpiece_counts_the_spaces_it_leaves_out(text):
    splits = open_data(text, "corpus")
    vocabulary, tokens = encode(splits, Units("wordpiece", 300))
    assert tokens.validation["bytes"].sum() == len(joined(splits.validation).encode())
    assert len(vocabulary) <= 300


def test_documents_end(tmp_path):
    texts = [f"document {n % 5}\nends" for n in range(20)]
    for n, each in enumerate(texts):
        (tmp_path / f"{n:02}.md").write_text(each)
    (tmp_path / "picture.bin").write_bytes(b"\xff\xd8\xff\x00" * 20)
    splits = open_data(tmp_path, "corpus")
    lines = {line.name: line for line in splits.info.details["lines"]}
    assert lines["documents"].taken_for == "20"
    assert "picture.bin" in lines["skipped"].more
    vocabulary, tokens = encode(splits, Units())
    assert vocabulary.decode(tokens.validation["tokens"]) == "[EOS]".join(texts[18:])
    by_seed = open_data(tmp_path, "corpus", in_order=False, hold_out=(0.2, 0.2))
    found = [set(part["document"]) for part in by_seed.parts.values()]
    assert sum(map(len, found)) == len(set.union(*found)) == 20


def test_columns_and_parts_of_tables(tmp_path):
    for name, count in (("train", 12), ("valid", 3)):
        rows = [{"id": n, "title": "x", "body": f"{name} {n} text\nand more"} for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = open_data(tmp_path, "corpus")
    assert joined(splits.validation).startswith("valid 0 text\nand more\nvalid 1")
    assert joined(open_data(tmp_path, "corpus", text="title").validation) == "x\n" * 3
    with raises("column-unknown", "--text", "'bdy'", "did you mean 'body'"):
        open_data(tmp_path, "corpus", text="bdy")


def test_mistakes_are_one_line(tmp_path, text):
    with raises("option-misplaced", "--text", "text.txt"):
        open_data(text, "corpus", text="body")
    (tmp_path / "empty.txt").write_text("\n \n")
    with raises("table-empty", "empty.txt"):
        open_data(tmp_path / "empty.txt", "corpus")
    (tmp_path / "latin.txt").write_bytes("größer\n".encode("cp1252"))
    with raises("encoding", "latin.txt", "cp1252"):
        open_data(tmp_path / "latin.txt", "corpus")
    with raises("hold-out-impossible", "0.6 0.6"):
        open_data(text, "corpus", hold_out=(0.6, 0.6))


@pytest.mark.parametrize("unit", ["character", "word", "bpe"])
def test_bits_a_byte_are_those_of_an_independent_count(text, unit):
    """By hand: every token's probability, and 8 bits for each byte of an unknown one, over the bytes."""
    splits = open_data(text, "corpus")
    vocabulary, tokens = encode(splits, Units(unit))
    held, length = tokens.validation, 16
    model = LanguageModel(len(vocabulary), Transformer(8, 1, 2, causal=True), length)
    task = language_modeling(model)
    columns = strided(**held, length=length, stride=8)
    batches = eval_batches(columns, 5)
    variables = task.init(jax.random.key(0), batches[0])
    found = [task.evaluate(variables, batches[n]) for n in range(len(batches))]
    total = jax.tree.map(lambda *leaves: sum(leaves), *found)

    bits = 0.0
    unknown = vocabulary.numbers["[UNK]"]
    for window in range(len(columns["inputs"])):
        logits = task.predict(variables, {"inputs": columns["inputs"][window : window + 1]})[0]
        logp = np.asarray(jax.nn.log_softmax(logits.astype(np.float32)))
        for place in np.flatnonzero(columns["weight"][window]):
            bits -= logp[place, columns["targets"][window, place]] / np.log(2)
    texts = joined(splits.validation).encode()
    first = vocabulary.decode(held["tokens"][:1]).encode() if held["tokens"][0] != unknown else b""
    bits += 8 * held["spelled"][1:].sum()
    assert compute(total)["bits_per_byte"] == pytest.approx(
        bits / (len(texts) - len(first)), rel=1e-5
    )


@pytest.mark.data
def test_shakespeare_survives_the_round_trip(data_dir, monkeypatch):
    monkeypatch.setenv("DL_DATA_DIR", str(data_dir))
    splits = open_data("tinyshakespeare", "corpus")
    vocabulary, tokens = encode(splits, Units())
    sizes = len(vocabulary), len(tokens.train["tokens"]), len(tokens.validation["tokens"])
    assert sizes == (65, 1003854, 111540)
    assert vocabulary.decode(tokens.validation["tokens"][:200]) == joined(splits.validation)[:200]
