"""Folders of tokens: what a text says, half of one never believed, trained on to the bits of the text itself."""

import dataclasses
import itertools
import json
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import faults
import jax
import numpy as np
import pytest
from mistakes import raises

import dl
from dl.baselines.ngrams import ngram_scores
from dl.cli.main import main
from dl.core.experiment import built
from dl.data import open as open_data
from dl.data.batches.tokens import crops, held_windows, tracks
from dl.data.own.corpus import OwnCorpus
from dl.data.own.kinds import guessed_kind
from dl.data.own.token_files import named_folders, read_tokens
from dl.data.own.token_writing import write_tokens
from dl.data.own.units import Units, encode, encoded, within_documents
from dl.runs.compare import first_difference
from dl.runs.scripts import load_script
from dl.testing import check_batches

SCRIPTS = Path(__file__).parents[3] / "experiments"
TEXT = "".join(f"The {n} cats sat on Ännchen's mat, 2 x {n % 7}!\n\n" for n in range(300)) + "end"
UNITS = {
    "bytes": "byte",
    "chars": "character",
    "words": "word",
    "bpe": "bpe",
    "wordpiece": "wordpiece",
}


@pytest.fixture
def texts(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in (("a.txt", TEXT), ("b.txt", "Other " + TEXT[::2])):
        (folder / name).write_text(text, "utf-8")
    return folder


def read(*folders, config=None):
    return read_tokens([(Path(f), "1") for f in folders], config or Units())


@pytest.mark.parametrize("tokenizer", UNITS)
def test_a_folder_has_the_tokens_of_the_text(texts, tmp_path, tokenizer):
    size = 300 if tokenizer in ("bpe", "wordpiece") else None
    said = write_tokens([str(texts)], tmp_path / "out", tokenizer, size)
    one = encode(open_data(texts, "corpus"), Units(UNITS[tokenizer], size))
    two = read(tmp_path / "out")
    assert one.vocabulary.numbers == two.vocabulary.numbers
    assert len(one.vocabulary) == said["vocabulary"]
    assert one.splits.parts.keys() == two.splits.parts.keys()
    for name, part in two.splits.parts.items():
        assert isinstance(part["tokens"], np.memmap)
        assert part["tokens"].dtype == np.uint16
        for column, values in part.items():
            np.testing.assert_array_equal(values, one.splits.parts[name][column])
    assert "bytes" in two.splits.validation


def test_bytes_say_the_text_again(texts, tmp_path):
    write_tokens([str(texts / "a.txt")], tmp_path / "out")
    vocabulary, splits = read(tmp_path / "out")
    said = [vocabulary.decode(part["tokens"]) for part in splits.parts.values()]
    assert "".join(said) == TEXT
    assert vocabulary.decode(vocabulary.encode("日本 ß\n")) == "日本 ß\n"


def test_many_tokens_take_four_bytes_and_texts_follow_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "cache"))
    every = "".join(chr(n) for n in range(0x20, 0x11000) if not 0xD800 <= n < 0xE000)
    lines = "".join(f"{every[n : n + 50]}\n" for n in range(0, len(every), 50)) * 2
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(lines, "utf-8")
    own = OwnCorpus(hold_out=(0.0, 0.0))
    given = [str(tmp_path / name) for name in ("a.txt", "b.txt")]
    said = write_tokens(given, tmp_path / "out", "chars", own=own)
    assert said["dtype"] == "uint32"
    vocabulary, splits = read(tmp_path / "out")
    assert vocabulary.decode(splits.train["tokens"]).count("[EOS]") == 1
    assert said["count"] == said["parts"]["train"]["count"] == len(splits.train["tokens"])


def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "cache"))
    peaks = []
    for times in (1, 1, 5):  # the first opens what is opened once
        (tmp_path / "text.txt").write_text(TEXT * (200 * times))
        tracemalloc.start()
        write_tokens([str(tmp_path / "text.txt")], tmp_path / f"out{len(peaks)}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / "out2" / "train.bin").stat().st_size > 20e6
    assert peaks[2] < 2 * peaks[1]  # which threads are at work at once differs


def test_another_s_tokenizer_and_tables(texts, tmp_path):
    write_tokens([str(texts)], tmp_path / "one", "bpe", 300)
    rows = [{"body": line} for line in TEXT.splitlines() if line]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    own = OwnCorpus(text="body", hold_out=(0.2, 0.1))
    for given in (tmp_path / "one", tmp_path / "one" / "tokenizer.json"):
        out = tmp_path / f"two{given.suffix}"
        write_tokens([str(tmp_path / "rows.jsonl"), str(texts / "b.txt")], out, str(given), own=own)
        one, two = read(tmp_path / "one"), read(out)
        assert one.vocabulary.numbers == two.vocabulary.numbers
        assert two.splits.parts.keys() == {"train", "validation", "test"}
        assert "[EOS]The 1 cats" in two.vocabulary.tokenizer.decode(
            two.splits.train["tokens"][:60].tolist(), skip_special_tokens=False
        )
    with raises("tokenizer-file", "bqe", "bpe"):
        write_tokens([str(texts)], tmp_path / "three", "bqe")
    for own in (str(tmp_path / "one"), "bytes"):
        with raises("option-misplaced", "--vocabulary"):
            write_tokens([str(texts)], tmp_path / "three", own, 300)
    with raises("data-unknown", "no text"):
        write_tokens([], tmp_path / "three")


def test_half_a_folder_is_never_believed(texts, tmp_path):
    folder = tmp_path / "out"
    write_tokens([str(texts)], folder)
    with raises("file-exists", "out"):
        write_tokens([str(texts)], folder)
    with raises("option-misplaced", "--hold-out, --unit", "out"):
        kind, _ = load_script(SCRIPTS / "gpt.py")
        encoded(kind(data=str(folder), unit="bpe", hold_out=(0.2, 0.0)))
    with raises("set-of-another-kind", "out", "gpt"):
        open_data(folder)
    data = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes(data[:-1])
    with raises("file-damaged", "train.bin", f"{len(data) - 1:,} bytes of {len(data):,}"):
        read(folder)
    (folder / "train.bin").write_bytes(data[:-2] + b"zz")
    with raises("file-damaged", "train.bin", "other bytes"):
        read(folder)
    (folder / "train.bin").unlink()
    with raises("file-damaged", "train.bin", "0 bytes"):
        read(folder)
    said = json.loads((folder / "tokens.json").read_text())
    digest = said["parts"]["train"]["digests"]["train.bin"]
    for odd in ("../train.bin", "/tmp/train.bin", "a/train.bin"):
        said["parts"]["train"]["digests"] = {odd: digest}
        (folder / "tokens.json").write_text(json.dumps(said))
        with raises("tokens-foreign", "tokens.json", "elsewhere"):
            read(folder)
    more, long = {"train.bin": digest, "more.bin": digest}, {"long" * 99 + ".bin": digest}
    for odd in ({}, {"train.bytes": digest}, more, long):
        said["parts"]["train"]["digests"] = odd
        (folder / "tokens.json").write_text(json.dumps(said))
        with raises("tokens-foreign", "tokens.json", "a file too"):
            read(folder)
    said["parts"]["train"]["digests"] = {"train.bin": digest}
    (folder / "tokens.json").write_text(json.dumps(said | {"tokenizer_file": "t" * 300}))
    with raises("tokenizer-file", "no tokenizer"):
        read(folder)
    (folder / "tokens.json").write_text(json.dumps(said | {"tokenizer_file": ".."}))
    with raises("tokens-foreign", "tokens.json", "elsewhere"):
        read(folder)
    (folder / "tokens.json").write_text('{"format": 1}')
    with raises("tokens-foreign", "tokens.json"):
        read(folder)
    (folder / "tokens.json").unlink()
    (folder / "train.bin").write_bytes(data)
    with raises("tokens-foreign", "train.bin"):
        named_folders(str(folder))


def test_a_killed_writer_leaves_nothing_of_that_name(texts, tmp_path):
    (texts / "long.txt").write_text("to be or not to be\n" * 200_000)
    command = [
        sys.executable,
        "-m",
        "dl",
        "data",
        "tokens",
        str(texts),
        "--out",
        str(tmp_path / "out"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (aside := [*tmp_path.glob(".out.*.part")]) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    if process.wait() == 0:
        pytest.skip("it was done before it was killed")
    assert aside
    assert not (tmp_path / "out").exists()
    write_tokens([str(texts / "a.txt")], tmp_path / "out")
    assert not [*tmp_path.glob(".out.*.part")]
    assert read(tmp_path / "out").splits.train


def test_the_command(texts, tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "out")
    given = ["tokens", f"{texts}/a.txt", f"{texts}/b.txt", "--out", out]
    monkeypatch.setattr(sys, "argv", ["dl", "data", *given, "--", "--hold-out", "0.2", "0.1"])
    main()
    told = capsys.readouterr().out
    assert "test " in told
    assert "257 different, uint16" in told


TINY = {
    "gpt": {"steps": 4, "width": 8, "heads": 2, "layers": 1, "context": 16},
    "character_rnn": {"steps": 4, "features": 4, "embedding": 4, "length": 5, "batch_size": 4},
}


@pytest.mark.parametrize("script", TINY)
def test_a_script_trains_on_a_folder_to_the_bits_of_the_text(texts, tmp_path, script):
    write_tokens([str(texts)], tmp_path / "out", "chars")
    kind, build = load_script(SCRIPTS / f"{script}.py")
    runs = [
        dl.train(
            build, kind(data=str(data), **TINY[script]), runs=tmp_path, name=name, progress=False
        )
        for name, data in (("text", texts), ("tokens", tmp_path / "out"))
    ]
    assert runs[0].metrics == runs[1].metrics
    assert first_difference(runs[0].folder, runs[1].folder) is None


# -- mixtures ----------------------------------------------------------------------------------------


@pytest.fixture
def two(texts, tmp_path):
    write_tokens([str(texts / "a.txt")], tmp_path / "books")
    write_tokens([str(texts / "b.txt")], tmp_path / "web")
    return tmp_path


def test_folders_and_weights_are_named(two, monkeypatch):
    monkeypatch.chdir(two)
    assert [w for _, w in named_folders("books:0.7, web:0.3")] == ["0.7", "0.3"]
    assert [w for _, w in named_folders("books,web")] == ["1", "1"]
    assert named_folders("books") == named_folders(str(two / "books")) == [(two / "books", "1")]
    assert (
        named_folders("tinyshakespeare") == named_folders("tfds:lm1b") == named_folders("a,b") == []
    )
    with raises("mixture-folder", "texts", "dl data tokens"):
        named_folders("books:0.7,texts:0.3")
    for weights in ("0.7,web:x", "0,web:1", "-1,web:1", "nan,web:1"):
        with raises("mixture-weights", "above 0"):
            kind, _ = load_script(SCRIPTS / "gpt.py")
            encoded(kind(data=f"books:{weights}"))
    write_tokens([str(two / "texts")], two / "words", "words")
    with raises("tokenizers-differ", "words", "books"):
        encoded(kind(data="books,words"))


def test_a_mixture_keeps_its_shares_and_its_epochs(two, monkeypatch):
    monkeypatch.chdir(two)
    kind, _ = load_script(SCRIPTS / "gpt.py")
    _, splits = encoded(kind(data="books:0.7,web:0.3"))
    batches = crops(splits.train["tokens"], 16, 12, 3)
    books, web = (len(source) for source in batches.source.sources)
    rows = np.concatenate([batches.indices(step) for step in range(2 * books // 12)])
    of_web = rows >= books
    for cycle in of_web[: len(rows) // 10 * 10].reshape(-1, 10):
        assert cycle.sum() == 3
    assert len({tuple(cycle) for cycle in of_web[:1000].reshape(-1, 10)}) > 20
    whole = (
        len(rows) // 10 * 10
    )  # rows of whole cycles: of every source each row as often, but for one
    for mine, size in (
        (rows[:whole][~of_web[:whole]], books),
        (rows[:whole][of_web[:whole]] - books, web),
    ):
        times = np.bincount(mine, minlength=size)
        assert len(times) == size
        assert times.max() - times.min() <= 1
    batch, again = batches[5], next(crops(splits.train["tokens"], 16, 12, 3).iterate(5))
    for name in ("inputs", "targets"):
        assert batch[name].dtype == np.int32
        np.testing.assert_array_equal(batch[name], again[name])
    assert (batch["inputs"][:, 1:] == batch["targets"][:, :-1]).all()
    parts = [dataclasses.replace(batches, shard=(n, 3))[5]["inputs"] for n in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), batch["inputs"])
    other = crops(splits.train["tokens"], 16, 12, 4)
    assert not np.array_equal(other.indices(5), batches.indices(5))
    check_batches(batches)


def test_held_out_parts_of_a_mixture_are_all_scored(two, monkeypatch):
    monkeypatch.chdir(two)
    kind, _ = load_script(SCRIPTS / "gpt.py")
    _, splits = encoded(kind(data="books:0.7,web:0.3"))
    held = dl.eval_batches(held_windows(splits, 16, 8).validation, 5)
    scored = sum(batch["weight"][batch["mask"] > 0].sum() for batch in held.iterate())
    sizes = [len(file) - 1 for file in splits.validation["tokens"].files]
    assert scored == sum(sizes)
    assert ngram_scores(splits, 257, 3)["validation/loss"] > 0
    told = {line.name: line.taken_for for line in splits.info.details["lines"]}
    for name in ("books", "web"):  # of each folder its own, not the mixture's
        parts = json.loads((two / name / "tokens.json").read_text())["parts"]
        assert told[name] == ", ".join(f"{p['count']:,} {part}" for part, p in parts.items())
    assert guessed_kind(str(two / "web")) == "corpus"


def test_tracks_of_a_mixture_go_on_side_by_side(two, monkeypatch):
    monkeypatch.chdir(two)
    kind, _ = load_script(SCRIPTS / "character_rnn.py")
    _, splits = encoded(kind(data="books:0.7,web:0.3"))
    tokens = splits.train["tokens"]
    batches = tracks(tokens, 7, 20, 3)
    for file, chosen, count in ((0, slice(0, 14), 14), (1, slice(14, 20), 6)):
        alone = tracks(np.asarray(tokens.files[file]), 7, count, 3)
        for step in (0, 1, alone.steps_per_epoch, 100):
            for name, values in alone[step].items():
                np.testing.assert_array_equal(batches[step][name][chosen], values)
    check_batches(batches)
    with raises("mixture-batch", "16", "7:3", "10"):
        tracks(tokens, 7, 16)
    with raises("text-too-short", "tracks"):
        tracks(tokens, 7000, 20)


@pytest.mark.parametrize("script", TINY)
def test_a_run_on_a_mixture_is_killed_and_resumed_to_the_bit(two, monkeypatch, script):
    monkeypatch.chdir(two)
    kind, build = load_script(SCRIPTS / f"{script}.py")
    config = kind(data="books:3,web:1", **TINY[script])
    options = {"runs": two, "progress": False, "log_every": 1, "eval_every": 2}
    whole = dl.train(build, config, name="whole", **options)
    with faults.at("step", 3), pytest.raises(faults.Crash):
        dl.train(build, config, name="killed", **options)
    resumed = dl.train(build, config, name="killed", resume=True, **options)
    assert first_difference(whole.folder, resumed.folder) is None
    lock = (whole.folder.path / "run.lock.json").read_text()
    assert build(config).data.digest() in lock


BERT = {
    "stage": "pretrain",
    "steps": 4,
    "width": 8,
    "heads": 2,
    "layers": 1,
    "positions": 18,
    "batch_size": 8,
}


def test_bert_learns_from_rows_of_tokens(texts, tmp_path):
    folder = tmp_path / "out"
    write_tokens([str(texts)], folder, "wordpiece", 300)
    kind, build = load_script(SCRIPTS / "bert.py")
    config = kind(data=f"{folder}:1,{folder}:3", **BERT)
    experiment = built(build, config)
    tokens = read(folder).splits.validation["tokens"]
    held = [*dl.eval_batches(experiment.evals["validation"].source, 5).iterate()]
    rows = [row for batch in held for row in batch["tokens"][batch["mask"] > 0]]
    sizes = [n for batch in held for n in batch["tokens_length"][batch["mask"] > 0]]
    assert all((row[0], row[size - 1]) == (4, 5) for row, size in zip(rows, sizes, strict=True))
    said = np.concatenate([row[1 : size - 1] for row, size in zip(rows, sizes, strict=True)])
    np.testing.assert_array_equal(said, np.tile(tokens, 2))
    alone = built(build, dataclasses.replace(config, data=str(folder)))
    check_batches(alone.data)
    runs = [dl.train(build, config, runs=tmp_path, progress=False, name=n) for n in ("one", "two")]
    assert first_difference(runs[0].folder, runs[1].folder) is None
    write_tokens([str(texts)], tmp_path / "bytes")
    with raises("tokenizer-bert", "bytes", "wordpiece"):
        build(kind(data=str(tmp_path / "bytes"), **BERT))
    write_tokens([str(texts)], tmp_path / "other", "wordpiece", 90)
    with raises("tokenizers-differ", "other"):
        build(kind(data=str(tmp_path / "other"), start=str(runs[0].folder.path), **BERT))


def test_a_run_on_tokens_is_judged_by_another_text(texts, tmp_path):
    write_tokens([str(texts / "a.txt")], tmp_path / "out")
    kind, build = load_script(SCRIPTS / "gpt.py")
    run = dl.train(
        build, kind(data=str(tmp_path / "out"), **TINY["gpt"]), runs=tmp_path, progress=False
    )
    scores = run.evaluate(texts / "b.txt")
    assert scores["bits_per_byte"].value == pytest.approx(
        scores["loss"].value / np.log(2), rel=1e-5
    )


# -- documents ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["memory", "tokens", "mixture"])
def test_a_token_sees_its_own_document_alone(texts, tmp_path, way):
    """The loss of a window is that of its documents, each alone in a window of its own."""
    for name in "cdef":  # short ones, so that a window holds several
        for n in range(9):
            (texts / f"{name}{n}.txt").write_text(f"{name * (n + 3)} mat")
    write_tokens([str(texts)], tmp_path / "out", "chars")
    data = {
        "memory": texts,
        "tokens": tmp_path / "out",
        "mixture": f"{tmp_path}/out:2,{tmp_path}/out:1",
    }
    kind, build = load_script(SCRIPTS / "gpt.py")
    own = {**TINY["gpt"], "context": 40, "style": "llama"}
    experiment = built(build, kind(data=str(data[way]), documents=True, **own))
    end = read(tmp_path / "out").vocabulary.numbers["[EOS]"]
    held = experiment.evals["validation"]
    batch = {name: np.asarray(values) for name, values in held[0].items()}
    plain = built(build, kind(data=str(data[way]), **own)).evals["validation"][0]
    ended = batch["inputs"] == end
    assert ended.sum(1).max() > 1
    np.testing.assert_array_equal(batch["weight"], np.asarray(plain["weight"]) * ~ended)
    variables = experiment.task.init(jax.random.key(0), batch)
    row = int(ended.sum(1).argmax())
    found, alone = (np.zeros(2) for _ in range(2))
    one = {name: values[row : row + 1] for name, values in batch.items()}
    loss = experiment.task.evaluate(variables, one)["loss"]
    found += (float(loss.total), float(loss.weight))
    edges = [0, *(np.flatnonzero(ended[row]) + 1), 40]
    for first, last in itertools.pairwise(edges):
        if first < last:
            piece = {n: v[:, first:last] if v.ndim > 1 else v for n, v in one.items()}
            loss = experiment.task.evaluate(variables, piece)["loss"]
            alone += (float(loss.total), float(loss.weight))
    np.testing.assert_allclose(found, alone, rtol=1e-5)
    train = experiment.augment[0](None, dict(experiment.data[0]))
    assert (np.asarray(train["weight"]) == (np.asarray(train["inputs"]) != end)).all()


def test_documents_need_an_end(texts, tmp_path):
    vocabulary, splits = encode(open_data(texts, "corpus"), Units())
    numbers = tuple(s for s in vocabulary.symbols if s != "[EOS]")
    with raises("option-misplaced", "--documents"):
        within_documents(splits, 8, dataclasses.replace(vocabulary, symbols=numbers))
