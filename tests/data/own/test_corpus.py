"""Plain text of the user's own: nothing lost, nothing unseen a crash, and bits a byte that compare."""

import json
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pytest
from mistakes import raises
from pyarrow import csv, parquet

import dl
from dl.baselines.ngrams import ngram_scores
from dl.core.metrics import compute
from dl.data import open as open_data
from dl.data.batches.resident import eval_batches
from dl.data.batches.tokens import crops, held_windows, strided
from dl.data.own.stored import StoredText
from dl.data.own.units import Units, encode, open_lines
from dl.models.language import LanguageModel
from dl.models.transformer import Transformer
from dl.report.data import write_data_page
from dl.runs.compare import first_difference
from dl.runs.scripts import load_script
from dl.tasks.language_modeling import language_modeling

SCRIPT = Path(__file__).parents[3] / "experiments" / "gpt.py"
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


def test_a_stray_file_is_named_and_two_documents_have_their_middle(tmp_path):
    (tmp_path / "brown.txt").write_text(TEXT * 2)
    (tmp_path / "genres.txt").write_text("ca01 news\n" * 10)
    lines = {line.name: line for line in open_data(tmp_path, "corpus").info.details["lines"]}
    assert "brown.txt, genres.txt" in lines["files"].more
    assert f"median {len(TEXT) + 50:,} " in lines["documents"].more
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(TEXT)
    streamed = open_data(tmp_path, "corpus", stream=True).info.details["lines"]
    lines = {line.name: line for line in streamed}
    assert lines["files"].taken_for == "4"
    assert lines["files"].more.endswith("a.txt, b.txt, brown.txt, ...")


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


# -- texts on disk -----------------------------------------------------------------------------------


LINES = "".join(
    f"{'Long ' * 300 if n % 9 == 0 else ''}line {n}, Ännchen's  2 x {n % 7}!\r\n{chr(10) * (n % 4)}"
    for n in range(400)
)


@pytest.fixture
def small_blocks(monkeypatch, tmp_path):
    monkeypatch.setattr("dl.data.own.stored.BLOCK", 700)
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "cache"))


def folder_of(tmp_path, *names):
    folder = tmp_path / "texts"
    for n, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = ("\ufeff" if n == 1 else "") + LINES[: len(LINES) // (1 + n % 3)]
        (folder / name).write_bytes(text.encode("utf-16" if n == 2 else "utf-8"))
    (folder / "blank.txt").write_text(" \n\n")
    (folder / "broken.txt").write_bytes(b"fine\n" * 300 + b"\xff\xfe\n")
    return folder


@pytest.mark.parametrize("unit", ["character", "word", "bpe", "wordpiece"])
def test_text_on_disk_becomes_the_tokens_of_text_in_memory(tmp_path, small_blocks, unit):
    folder = folder_of(tmp_path, "a.txt", "b.txt", "c.txt", "d.txt")
    whole, stored = (
        open_data(folder, "corpus", stream=stream, hold_out=(0.13, 0.08))
        for stream in (False, True)
    )
    lines = [{line.name: line for line in each.info.details["lines"]} for each in (whole, stored)]
    assert lines[0]["documents"] == lines[1]["documents"]
    assert lines[0]["skipped"] == lines[1]["skipped"]
    assert "read from disk" in lines[1]["memory"].taken_for
    assert whole.parts.keys() == stored.parts.keys()
    for name, part in whole.parts.items():
        assert isinstance(stored.parts[name]["text"], StoredText)
        assert joined(stored.parts[name]) == joined(part)
    units = Units(unit, None if unit in ("character", "word") else 300)
    one, two = encode(whole, units), encode(stored, units)
    assert one.vocabulary.numbers == two.vocabulary.numbers
    for name, part in one.splits.parts.items():
        for column, values in part.items():
            assert isinstance(two.splits.parts[name][column], np.memmap)
            np.testing.assert_array_equal(two.splits.parts[name][column], values)
    assert ngram_scores(one.splits, len(one.vocabulary), 3) == ngram_scores(
        two.splits, len(two.vocabulary), 3
    )


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("options", [{"in_order": False}, {}, {"split": "part"}])
def test_rows_of_a_table_on_disk_are_those_in_memory(
    tmp_path, small_blocks, monkeypatch, ending, options
):
    monkeypatch.setattr("dl.data.readers.on_disk.ROWS", 13)
    texts = [
        None if n % 7 == 3 else f"row {n} of Ännchen's\ntext, {'long ' * (n % 5)}"
        for n in range(90)
    ]
    columns = {"body": texts, "part": ["train" if n % 4 else "val" for n in range(90)]}
    table, path = pa.table(columns), tmp_path / f"rows.{ending}"
    if ending == "jsonl":
        path.write_text("\n".join(map(json.dumps, table.to_pylist())))
    else:
        {"parquet": parquet.write_table, "csv": csv.write_csv}[ending](table, path)
    whole, stored = (
        open_data(path, "corpus", text="body", stream=s, **options) for s in (False, True)
    )
    assert whole.parts.keys() == stored.parts.keys()
    for name, part in whole.parts.items():
        assert isinstance(stored.parts[name]["text"], StoredText)
        assert joined(stored.parts[name]) == joined(part)
    lines = {line.name: line for line in stored.info.details["lines"]}
    assert lines["documents"].taken_for == "77"
    one, two = encode(whole, Units("word")), encode(stored, Units("word"))
    for name, part in one.splits.parts.items():
        np.testing.assert_array_equal(two.splits.parts[name]["tokens"], part["tokens"])


@pytest.mark.parametrize("options", [{"in_order": False}, {}])
def test_documents_on_disk_have_the_parts_of_documents_in_memory(tmp_path, small_blocks, options):
    names = [f"{n}.txt" for n in range(8)]
    if not options:
        names = [f"{part}/{name}" for part in ("train", "test") for name in names]
    folder = folder_of(tmp_path, *names)
    whole, stored = (open_data(folder, "corpus", stream=s, **options) for s in (False, True))
    for name in ("train", "test") if not options else whole.parts:
        assert joined(stored.parts[name]) == joined(whole.parts[name])
        assert len(set(stored.parts[name]["document"])) == len(set(whole.parts[name]["document"]))
    assert "".join(open_lines(folder, stream=True, **options).train["text"]) == joined(stored.train)
    write_data_page(stored, tmp_path / "page.html")
    assert "lines of the text on disk are looked at" in (tmp_path / "page.html").read_text("utf-8")
    with raises("encoding", "broken.txt", "cp1252"):
        open_data(folder / "broken.txt", "corpus", stream=True)
    with raises("table-empty", "blank.txt"):
        open_data(folder / "blank.txt", "corpus", stream=True)


def test_windows_of_tokens_on_disk_are_those_of_tokens_in_memory(tmp_path, small_blocks):
    folder = folder_of(tmp_path, "a.txt", "b.txt", "c.txt")
    texts = [encode(open_data(folder, "corpus", stream=s), Units()).splits for s in (False, True)]
    one, two = (crops(text.train["tokens"], 16, 8, 3) for text in texts)
    assert (one.size, one.digest()) == (two.size, two.digest())
    for step in (0, 7, 10**6):
        for name, values in one[step].items():
            np.testing.assert_array_equal(two[step][name], values)
    np.testing.assert_array_equal(next(two.iterate(7))["inputs"], two[7]["inputs"])
    one, two = (eval_batches(held_windows(text, 16, 8).validation, 5) for text in texts)
    assert len(one) == len(two)
    for index in (0, len(one) - 1):
        for name, values in one[index].items():
            np.testing.assert_array_equal(two[index][name], values)


def test_a_gpt_trains_on_text_on_disk_to_the_same_bits(tmp_path, small_blocks):
    folder = folder_of(tmp_path, "a.txt", "b.txt")
    kind, build = load_script(SCRIPT)
    tiny = {"data": str(folder), "steps": 4, "width": 8, "heads": 2, "layers": 1, "context": 16}
    runs = [
        dl.train(build, kind(**tiny, stream=s), runs=tmp_path, name=f"{s}", progress=False)
        for s in (False, True)
    ]
    assert runs[0].metrics == runs[1].metrics
    assert first_difference(runs[0].folder, runs[1].folder) is None


def test_text_beyond_a_quarter_of_memory_stays_on_disk(text, small_blocks, monkeypatch):
    size = text.stat().st_size
    for memory, kind in ((48 * size, np.ndarray), (48 * size - 1, StoredText)):
        monkeypatch.setattr("dl.data.own.pixels.host_memory", lambda memory=memory: memory)
        assert isinstance(open_data(text, "corpus", encoding="utf-8").train["text"], kind)
        text.touch()


@pytest.mark.parametrize("text", ["a", "ab\ncd\n", "a\n"])
def test_a_tiny_text_is_cut_alike_in_memory_and_on_disk(tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    told = [dl.data.open(tmp_path / "t.txt", "corpus", stream=s) for s in (False, True)]
    whole, stream = ({p: "".join(c["text"]) for p, c in one.parts.items()} for one in told)
    assert whole == stream
