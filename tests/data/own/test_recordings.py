"""Recordings of one's own with a class each, of any format, rate and number of channels."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from mistakes import raises

import dl
from dl.baselines.recordings import spectrum_baseline
from dl.data.batches.streams import FileRows
from dl.runs.compare import first_difference
from dl.runs.scripts import load_script

RATE = 8000
SCRIPT = Path(__file__).parents[3] / "experiments" / "spoken_digits.py"


def tone(path, hertz, seconds=0.2, rate=RATE, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.stack([wave] * channels, 1), rate)
    return path


def shown(splits):
    return {line.name: f"{line.taken_for} {line.more}" for line in splits.info.details["lines"]}


@pytest.fixture
def tones(tmp_path):
    """A folder of two classes, ten recordings each."""
    for name, hertz in (("low", 300), ("high", 2000)):
        for n in range(10):
            tone(tmp_path / "tones" / name / f"{n}.wav", hertz + n, 0.2 + 0.01 * n)
    return tmp_path / "tones"


def test_a_folder_a_class(tones):
    (tones / "low" / "broken.wav").write_text("no sound")
    (tones / "low" / "notes.txt").write_text("heard on Monday")
    tone(tones / "stray.wav", 500)
    splits = dl.data.open(tones, "recordings")
    assert splits.info.classes == ("high", "low")
    assert {name: len(part["label"]) for name, part in splits.parts.items()} == {
        **{"train": 16, "validation": 2, "test": 2},
    }
    assert splits.train["waveform"].dtype == np.int16
    assert splits.train["waveform"].shape[1] == 0.29 * RATE == splits.train["length"].max()
    assert splits.info.details["rate"] == RATE
    lines = shown(splits)
    assert "1 file" in lines["left out"]
    assert "broken.wav" in lines["skipped"]
    assert "high: 10, low: 10" in lines["label"]
    assert len(splits.info.digests["tones"]) == 64


def test_formats_rates_and_channels_come_to_one(tmp_path):
    pytest.importorskip("soxr")
    folder = tmp_path / "mixed"
    kinds = ("wav", 8000, 1), ("flac", 16000, 2), ("ogg", 44100, 1), ("WAV", 48000, 2)
    for name, hertz in (("low", 300), ("high", 2000)):
        for n, (ending, rate, channels) in enumerate(kinds * 3):
            tone(folder / name / f"{n}.{ending}", hertz, 0.3, rate, channels)
    splits = dl.data.open(folder, "recordings", rate=8000)
    part = splits.train
    assert abs(part["length"] - 2400).max() <= 1
    for row, label in zip(part["waveform"], part["label"], strict=True):
        loudest = np.abs(np.fft.rfft(row[:2400])).argmax() * 8000 / 2400
        assert abs(loudest - (2000, 300)[label]) < 10
        assert 0.3 < np.abs(row / 32768).max() < 0.5
    assert "12 of 48,000" not in shown(splits)["rate"]
    assert "6 of 48,000 Hz" in shown(splits)["rate"]
    with raises("range", "--rate"):
        dl.data.open(folder, "recordings", rate=0)


def test_parts_and_lists_of_the_folder(tones, tmp_path):
    (tones / "testing_list.txt").write_text("low/0.wav\nhigh/3.wav\n")
    splits = dl.data.open(tones, "recordings")
    assert len(splits.test["label"]) == 2
    for part in ("train", "valid", "test"):
        for name in ("a", "b"):
            for n in range(3):
                tone(tmp_path / "parts" / part / name / f"{n}.wav", 400)
    splits = dl.data.open(tmp_path / "parts", "recordings")
    assert [len(part["label"]) for part in splits.parts.values()] == [6, 6, 6]
    assert splits.info.classes == ("a", "b")


def test_a_table_of_paths(tones, tmp_path):
    rows = [f"{name}/{n};{name};{n % 4}" for name in ("low", "high") for n in range(10)]
    table = tones / "list.csv"
    table.write_text("file;class\n" + "".join(f"{n};{'ab'[n % 2]}\n" for n in range(10)))
    with raises("recordings-missing", "'file'", "such as 0"):  # two folders have a 0.wav
        dl.data.open(table, "recordings")
    table.write_text("\ufefffile;class;speaker\r\n" + "\r\n".join([*rows, "low/99;low;1"]))
    assert sum(dl.data.open(table, "recordings").info.sizes.values()) == 20
    table.write_text(
        table.read_text("utf-8").replace(";low", ".wav;low").replace(";high", ".wav;high")
    )
    splits = dl.data.open(table, "recordings", group="speaker")
    assert "99.wav" in shown(splits)["skipped"]
    assert sum(len(part["label"]) for part in splits.parts.values()) == 20
    assert splits.info.classes == ("high", "low")
    with raises("column-unknown", "--label", "did you mean 'class'"):
        dl.data.open(table, "recordings", label="clas")
    table.write_text(table.read_text("utf-8").replace("class;speaker", "pitch;when"))
    with raises("column-unnamed", "labels", "--label with one of pitch, when"):
        dl.data.open(table, "recordings")
    rows = "".join(f"low/{n}.wav;{n % 2};{n}:00\n" for n in range(10))
    table.write_text("file;pitch;when\n" + rows)
    said = shown(dl.data.open(table, "recordings"))["column pitch"]
    assert said.startswith("label proposed: --label names another")
    other = tmp_path / "esc" / "meta" / "list.csv"
    other.parent.mkdir(parents=True)
    other.write_text("filename,target\n" + "".join(f"{n}.wav,{n % 2}\n" for n in range(10)))
    for n in range(10):
        tone(tmp_path / "esc" / "audio" / f"{n}.wav", 500)
    assert dl.data.open(other, "recordings").info.classes == ("0", "1")


def test_a_few_that_are_far_longer_are_cut_and_counted(tones):
    tone(tones / "low" / "long.wav", 300, 5.0)
    for n in range(180):
        tone(tones / "low" / f"more{n}.wav", 300)
    splits = dl.data.open(tones, "recordings")
    assert splits.train["waveform"].shape[1] < RATE
    assert "1 longer one" in shown(splits)["cut"].replace("2 longer ones", "1 longer one")
    assert "--seconds" in shown(splits)["cut"]
    whole = dl.data.open(tones, "recordings", seconds=6)
    assert max(part["length"].max() for part in whole.parts.values()) == 5 * RATE


def test_mistakes_are_named(tones, tmp_path):
    tone(tmp_path / "flat" / "0_yes.wav", 300)
    with raises(
        "no-recordings", "1 .wav", "folder above where", "or in it a folder for each", "table"
    ):
        dl.data.open(tmp_path / "flat", "recordings")
    with raises("no-recordings", "1 .md", "a folder for each class"):
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "a.md").write_text("x")
        dl.data.open(tmp_path / "docs", "recordings")
    one = tmp_path / "one"
    for n in range(3):
        tone(one / "only" / f"{n}.wav", 300)
    with raises("target-one-class", "'only'"):
        dl.data.open(one, "recordings")
    for file in (one / "only").iterdir():
        file.write_bytes(b"RIFF")
    with raises("recording-unreadable", "none of 3"):
        dl.data.open(one, "recordings")
    with raises("option-misplaced", "--rate"):
        dl.data.open("fsdd", "recordings", rate=8000)


def test_flags_of_columns_are_refused_beside_a_folder_a_class(tones):
    for flag in ("group", "label"):
        with raises("option-misplaced", f"--{flag}", "a folder for each class"):
            dl.data.open(tones, "recordings", **{flag: "who"})


# -- streams -----------------------------------------------------------------------------------------


def test_a_stream_holds_the_rows_in_memory(tmp_path):
    pytest.importorskip("soxr")
    for name, hertz in (("low", 300), ("high", 2000)):
        for n in range(10):
            rate = 8000 if n < 8 else 11025
            tone(tmp_path / name / f"{n}.wav", hertz, 0.2 + 0.013 * n, rate, 1 + n % 2)
    (tmp_path / "low" / "broken.wav").write_text("no sound")
    cut = tone(tmp_path / "low" / "cut.wav", 300)
    cut.write_bytes(cut.read_bytes()[:-100])
    whole = dl.data.open(tmp_path, "recordings", seconds=0.28)
    stream = dl.data.open(tmp_path, "recordings", seconds=0.28, stream=True)
    assert "read from disk as needed" in shown(stream)["memory"]
    assert "all in memory" in shown(whole)["memory"]
    assert shown(stream)["skipped"] == shown(whole)["skipped"]
    assert list(stream.train[0]) == list(whole.train)
    for name, columns in whole.parts.items():
        assert isinstance(stream.parts[name], FileRows)
        for column, values in stream.parts[name].read().items():
            np.testing.assert_array_equal(values, columns[column])
            assert values.dtype == columns[column].dtype
        np.testing.assert_array_equal(stream.parts[name].columns["length"], columns["length"])
    assert len(stream.train.digest()) == 64
    assert spectrum_baseline(stream) == spectrum_baseline(whole)


def test_recordings_beyond_a_quarter_of_memory_stream(tones, monkeypatch):
    monkeypatch.setattr("dl.data.own.pixels.host_memory", lambda: 4 * 20 * 2 * 2320 - 1)
    splits = dl.data.open(tones, "recordings")
    assert isinstance(splits.train, FileRows)
    assert "above a quarter" in shown(splits)["memory"]


def test_streamed_recordings_train_to_the_same_bits(tones, tmp_path):
    kind, build = load_script(SCRIPT)
    tiny = {"data": str(tones), "epochs": 2, "batch_size": 5, "width": 4, "seed": 1}
    runs = [
        dl.train(build, kind(**tiny, stream=s), runs=tmp_path, name=f"{s}", progress=False)
        for s in (False, True)
    ]
    assert runs[0].metrics == runs[1].metrics
    assert first_difference(runs[0].folder, runs[1].folder) is None


def test_one_recording_is_no_set(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with raises("no-recordings", "a.wav is one recording"):
        dl.data.open(tmp_path / "a.wav", "recordings")
