"""Recordings of one's own with their texts: tables, LibriSpeech's and Common Voice's layouts."""

import json

import numpy as np
import pytest
import soundfile
from mistakes import raises

import dl
from dl.baselines.recordings import transcript_baselines
from dl.data.own.transcripts import UNKNOWN, in_characters
from dl.tasks.ctc import spell


def sound(path, seconds=1.0, rate=8000):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * rate))
    soundfile.write(path, noise, rate)


def shown(splits):
    return {line.name: f"{line.taken_for} {line.more}" for line in splits.info.details["lines"]}


def texts(splits):
    return {text for part in splits.parts.values() for text in part["text"]}


@pytest.mark.parametrize("ending", ["tsv", "jsonl"])
def test_a_table_of_path_and_text(tmp_path, ending):
    rows = [(f"clips/{n}.wav", f"  Say \t{n}  Please") for n in range(10)]
    for path, _ in rows:
        sound(tmp_path / path)
    if ending == "jsonl":
        keys = ("audio_filepath", "text")
        lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
    else:
        lines = [
            "path\tsentence",
            *(f"{path}\t{text.split()[0]} {n} please" for n, (path, text) in enumerate(rows)),
        ]
    (tmp_path / f"list.{ending}").write_text("\n".join(lines) + "\n")
    splits = dl.data.open(tmp_path / f"list.{ending}", "transcripts")
    assert texts(splits) == {f"say {n} please" for n in range(10)}
    assert "--no-lower" in shown(splits)["text"]
    kept = dl.data.open(tmp_path / f"list.{ending}", "transcripts", lower=False)
    assert "Say" in next(iter(texts(kept)))


def test_the_only_column_of_texts_is_taken_and_said(tmp_path):
    rows = [f"{n}.wav,Ann,{n},the number {n}" for n in range(10)]
    (tmp_path / "list.csv").write_text("\n".join(["file,who,age,words_said", *rows]))
    for n in range(10):
        sound(tmp_path / f"{n}.wav", 0.5)
    splits = dl.data.open(tmp_path / "list.csv", "transcripts")
    assert texts(splits) == {f"the number {n}" for n in range(10)}
    assert "text proposed: --text names another" in shown(splits)["column words_said"]
    splits = dl.data.open(tmp_path / "list.csv", "transcripts", text="words_said")
    assert shown(splits)["column words_said"].strip() == "text"


def test_common_voice(tmp_path):
    for part, count in (("train", 4), ("dev", 2), ("test", 2), ("other", 1)):
        for n in range(count):
            sound(tmp_path / "clips" / f"common_{part}{n}.wav")
        lines = [f"0ab\tcommon_{part}{n}.wav\tWhat {part}?\t2" for n in range(count)]
        (tmp_path / f"{part}.tsv").write_text(
            "\n".join(["client_id\tpath\tsentence\tup_votes", *lines])
        )
    splits = dl.data.open(tmp_path, "transcripts")
    assert [len(part["text"]) for part in splits.parts.values()] == [4, 2, 2]
    assert set(splits.validation["text"]) == {"what dev?"}


def test_librispeech(tmp_path):
    for part in ("train-clean-100", "dev-clean", "test-clean"):
        folder = tmp_path / "LibriSpeech" / part / "103" / "1240"
        for n in range(3):
            sound(folder / f"103-1240-{n:04}.flac", rate=16000)
        lines = [f"103-1240-{n:04} CHAPTER {'ABC'[n]}" for n in range(2)]
        (folder / "103-1240.trans.txt").write_text("\n".join(lines))
    splits = dl.data.open(tmp_path / "LibriSpeech", "transcripts")
    assert [len(part["text"]) for part in splits.parts.values()] == [2, 2, 2]
    assert texts(splits) == {"chapter a", "chapter b"}
    assert "3 recordings" in shown(splits)["skipped"]


def test_a_text_file_beside_each_and_those_too_long_are_left_out(tmp_path):
    for n in range(10):
        sound(tmp_path / f"{n}.wav", 3.0 if n == 9 else 0.5)
        (tmp_path / f"{n}.txt").write_text(f"number {n}\n" if n else " \n")
    splits = dl.data.open(tmp_path, "transcripts", seconds=1.0)
    assert texts(splits) == {f"number {n}" for n in range(1, 9)}
    assert "they have no text" in shown(splits)["skipped"]
    assert "1 longer one" in shown(splits)["left out"]


def test_texts_become_characters(tmp_path):
    lines = [
        f"{n}.wav,{text},{part}"
        for n, (text, part) in enumerate(
            [("ab a", "train"), ("b", "train"), ("x" * 30, "train"), ("ac", "val"), ("b", "test")]
        )
    ]
    (tmp_path / "list.csv").write_text("\n".join(["file,text,split", *lines]))
    for n in range(5):
        sound(tmp_path / f"{n}.wav", 0.5)
    # 30 alike need 59 frames of 40 ms, and half a second has 12.
    with pytest.warns(UserWarning, match="1 recordings are left out"):
        splits = in_characters(dl.data.open(tmp_path / "list.csv", "transcripts"))
    tokens = splits.info.details["tokens"]
    assert tokens == (" ", "a", "b", "x", UNKNOWN)
    assert [spell(row, tokens, "") for row in splits.train["label"]] == ["ab a", "b"]
    assert spell(splits.validation["label"][0], tokens, "") == f"a{UNKNOWN}"
    assert set(splits.train) == {"waveform", "length", "label"}


def test_mistakes_are_named(tmp_path):
    (tmp_path / "list.csv").write_text("file,words_said\na.wav,hello\nb.wav,there\n")
    with raises("recordings-missing", "a.wav"):
        dl.data.open(tmp_path / "list.csv", "transcripts")
    (tmp_path / "list.csv").write_text("file,heard,corrected\na.wav,hello,hallo\nb.wav,me,my\n")
    with raises("column-unnamed", "texts", "--text with one of heard, corrected"):
        dl.data.open(tmp_path / "list.csv", "transcripts")
    (tmp_path / "list.csv").unlink()
    with raises("no-recordings", "trans.txt"):
        dl.data.open(tmp_path, "transcripts")


def test_a_stream_has_the_texts_and_recordings_in_memory(tmp_path):
    for n in range(20):
        sound(tmp_path / f"{n}.wav", 0.2 if n == 7 else 0.5 + 0.01 * n)
        (tmp_path / f"{n}.txt").write_text("far too many words for this" if n == 7 else f"no {n}\n")
    splits = [dl.data.open(tmp_path, "transcripts", stream=stream) for stream in (False, True)]
    assert texts(splits[0]) == {t for p in splits[1].parts.values() for t in p.columns["text"]}
    assert splits[1].train.read()["text"].tolist() == splits[0].train["text"].tolist()
    assert len(splits[1].train.digest()) == 64
    with pytest.warns(UserWarning, match="1 recordings are left out"):
        whole, stream = (in_characters(each) for each in splits)
    assert stream.info.details["tokens"] == whole.info.details["tokens"]
    for name, columns in whole.parts.items():
        read = stream.parts[name].read()
        assert list(read) == list(columns)
        for column, values in columns.items():
            np.testing.assert_array_equal(read[column], values)
    assert transcript_baselines(stream) == transcript_baselines(whole)
