"""What kind files are is told by their endings and folders."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
from mistakes import raises
from PIL import Image

import dl
from dl.data import open as open_data
from dl.data.own.door import Kind, options_of
from dl.data.own.kinds import guessed_kind
from dl.data.readers import series_tables
from dl.data.splits import Info, Splits


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("pictures", ["cat/1.PNG", "dog/2.jpg", "notes.txt"]),
        ("masks", ["images/1.png", "masks/1.png"]),
        ("boxes", ["images/1.jpg", "labels/1.txt"]),
        ("boxes", ["JPEGImages/1.jpg", "Annotations/1.xml"]),
        ("recordings", ["yes/1.wav", "no/2.FLAC"]),
        ("transcripts", ["clips/1.mp3", "train.tsv"]),
        ("transcripts", ["84/121/84-121-0.flac", "84/121/84-121.trans.txt"]),
        ("texts", ["pos/1.txt", "neg/1.txt"]),
        ("texts", ["reviews.jsonl"]),
        ("corpus", ["book.txt", "other.md"]),
        ("records", ["events.csv", "stays.parquet"]),
        ("table", ["rows.csv"]),
        ("table", ["rows.parquet", ".hidden.png"]),
    ],
)
def test_files_show_their_kind(tmp_path, kind, files):
    for name in files:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert guessed_kind(str(tmp_path)) == kind
    if len(files) == 1:
        assert guessed_kind(str(tmp_path / files[0])) == kind


def test_a_named_set_has_its_kind():
    assert guessed_kind("multi30k") == "pairs"
    assert options_of("pairs").__name__ == "OwnPairs"


def test_what_shows_no_kind_is_asked_for(tmp_path):
    (tmp_path / "a.bin").touch()
    with raises("kind-unclear", "--kind", "pictures"):
        guessed_kind(str(tmp_path))
    with raises("data-unknown", "nowhere"):
        guessed_kind(str(tmp_path / "nowhere"))
    with raises("unknown", "'tables'", "did you mean 'table'"):
        options_of("tables")


N = range(60)
WALK = np.cumsum(np.random.default_rng(0).normal(size=(60, 3)), 0)
CONTENT = {
    ("texts", "a.tsv"): [f"{n % 2}\t{'ACGT' * 10}{'ACGT'[n % 4] * (n + 1)}" for n in N],
    ("texts", "b.csv"): ["Review;Stars", *(f"film {n} is rather good;{n % 5}" for n in N)],
    ("texts", "train.txt"): [f"{'ABC'[n % 3]}:x how did {n} come to town?" for n in N],
    ("pairs", "c.tsv"): ["Deutsch\tEnglish", *(f"ein Mann sieht {n}\ta man sees {n}" for n in N)],
    ("corpus", "d.csv"): ["body", *(f"all is told of number {n}" for n in N)],
    ("corpus", "e.txt"): [f"{chr(65 + n % 26)}{n % 7} said{', oh' * (n % 3)}, nothing" for n in N],
    ("questions", "q.csv"): [
        "id,Story,Question,A,B,Answer",
        *(f"{n},Ann sat. Tom ran {n} miles.,Who ran?,Ann,Tom,B" for n in N),
    ],
    ("ratings", "u.data"): [f"{n % 9}\t{n % 7}\t{n % 5}\t{881250949 + n}" for n in N],
    ("ratings", "f.dat"): [f"{n % 9}::{n % 7}::{n % 5}::{881250949 + n}" for n in N],
    ("ratings", "g.csv"): ["userId,movieId,rating", *(f"{n % 9},{n},{n % 5}" for n in N)],
    ("series", "h.csv"): [
        "load,date",
        *(f"{n % 7},2020-01-{n % 30 + 1:02} 0{n // 30}:00" for n in range(30)),
    ],
    ("series", "i.txt"): [",".join(f"{v:.4f}" for v in row) for row in WALK],
    ("series", "j.csv"): [
        "year,month,day,x",
        *(f"2020,{n // 28 + 1},{n % 28 + 1},{n % 9}" for n in N),
    ],
    ("series", "k.csv"): [
        "date,shop,x",
        *(f"2020-01-{n // 3 + 1:02},{'abc'[n % 3]},{n}" for n in N),
    ],
    ("table", "l.csv"): ["age,town,y", *(f"{n * 7 % 50},{'ab'[n % 2]},{n % 2}" for n in N)],
    ("table", "m.csv"): [
        "sold,price,rooms",
        *(f"2020-0{n * 7 % 9 + 1}-01,{n * 3},{n % 4}" for n in N),
    ],
    ("table", "n.dat"): [f"{n * 7 % 50}   {n % 3}  {n * 11 % 13}" for n in N],
    ("table", "r.txt"): [" age town", *(f"{n * 7 % 50:4d} {'ab'[n % 2]:>4}" for n in N)],
    ("texts", "s.csv"): [f"{chr(65 + n % 26)}o{n}na,{'Italian' if n % 3 else 'Dutch'}" for n in N],
    ("texts", "t.csv"): ["Text;Urteil", *(f"das ist {n} mal sch\xf6n;{n % 3}" for n in N)],
    ("corpus", "u.txt"): [f"{('ANNA:', 'BEN:')[n % 2]} that is {'so ' * (n % 7)}" for n in N],
    ("pictures", "o.csv"): ["file,label", *(f"a/{n}.JPG,{n % 2}" for n in N)],
    ("recordings", "p.csv"): ["file,label", *(f"{n}.wav,{n % 2}" for n in N)],
    ("transcripts", "q.tsv"): ["path\tsentence", *(f"{n}.mp3\tthe man said {n}" for n in N)],
}


@pytest.mark.parametrize(("kind", "name"), CONTENT)
def test_a_file_shows_its_kind_by_what_it_holds(tmp_path, kind, name):
    (tmp_path / name).write_bytes("\n".join([*CONTENT[kind, name], ""]).encode("cp1252"))
    assert guessed_kind(str(tmp_path / name)) == kind


def lines_of(splits):
    return {line.name: line for line in splits.info.details["lines"]}


def test_the_kind_that_was_guessed_is_shown_with_its_script(tmp_path):
    (tmp_path / "b.csv").write_text("\n".join(CONTENT["texts", "b.csv"]))
    line = lines_of(open_data(tmp_path / "b.csv"))["read as"]
    assert line.taken_for == "texts"
    assert "dl run sentiment" in line.more


def test_what_looks_like_another_kind_is_said(tmp_path):
    for name in ("h.csv", "l.csv"):
        kind = "series" if name == "h.csv" else "table"
        (tmp_path / name).write_text("\n".join(CONTENT[kind, name]))
    assert "read as" not in lines_of(open_data(tmp_path / "l.csv", "table"))
    assert "check" not in lines_of(open_data(tmp_path / "l.csv", "table"))
    said = lines_of(open_data(tmp_path / "h.csv", "table"))["check"]
    assert "dl run forecasting --data h.csv" in said.more
    assert "check" not in lines_of(open_data(tmp_path / "h.csv", "table", target="load"))
    with raises("text-unnamed", "l.csv is a table", "dl run tabular", "--text"):
        open_data(tmp_path / "l.csv", "corpus")
    (tmp_path / "n.txt").write_text("\n".join(CONTENT["table", "n.dat"]))
    said = lines_of(open_data(tmp_path / "n.txt", "corpus"))["check"]
    assert "dl run tabular --data n.txt" in said.more


def test_a_question_about_columns_is_led_by_the_kind_that_files_look_like(tmp_path):
    for kind, name in CONTENT:
        (tmp_path / name).write_text("\n".join(CONTENT[kind, name]))
    with raises("text-unnamed", "i.txt looks like series: `dl run forecasting --data i.txt`"):
        open_data(tmp_path / "i.txt", "texts")
    with raises("pairs-files", "i.txt looks like series", "; else i.txt is a file of lines"):
        open_data(tmp_path / "i.txt", "pairs")
    (tmp_path / "trec").mkdir()
    (tmp_path / "train.txt").rename(tmp_path / "trec" / "train.txt")
    with raises(
        "series-no-variables", "trec looks like texts with a label each: `dl run sentiment"
    ):
        open_data(tmp_path / "trec", "series")
    rows = [f'{{"name": "{n}a", "long": "all is told of {n}", "short": "told of {n}"}}' for n in N]
    (tmp_path / "two.jsonl").write_text("\n".join(rows))
    with raises(
        "target-unnamed", "texts without classes: `dl run gpt --data two.jsonl`", "--label"
    ):
        open_data(tmp_path / "two.jsonl", "texts")


@pytest.mark.parametrize("kind", ["texts", "pairs", "corpus", "table", "series", "recordings"])
def test_a_folder_of_pictures_is_told_from_every_other_kind(tmp_path, kind):
    for n in range(4):
        (tmp_path / "ab"[n % 2]).mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "ab"[n % 2] / f"{n}.png")
    with raises("set-of-another-kind", "4 pictures", "dl run image_classification --data"):
        open_data(tmp_path, kind)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_no_field_of_a_kind_is_one_of_training(kind):
    # A config that has both would have one field for two things, as --clip was a column and the clipping.
    fields = {f.name for f in dataclasses.fields(options_of(kind))}
    assert not fields & {f.name for f in dataclasses.fields(dl.Recipe)}


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("name", ["a.npz", "a.mat", "a.pkl"])
def test_a_file_of_arrays_is_of_no_kind(tmp_path, kind, name):
    np.savez(tmp_path / "a", x=np.zeros(3))
    if name != "a.npz":
        (tmp_path / "a.npz").rename(tmp_path / name)
    with raises("file-of-arrays", name, "dl.train_batches"):
        open_data(tmp_path / name, kind)


def test_a_wide_table_is_looked_at_a_column_at_a_time(tmp_path, monkeypatch):
    seen, times = [], series_tables.times
    monkeypatch.setattr(
        series_tables, "times", lambda f, h: seen.append(f.columns.num_columns) or times(f, h)
    )
    path = tmp_path / "t.csv"
    rows = "".join(f"{','.join(str(n * c % 97) for c in range(300))},{n % 2}\n" for n in range(30))
    path.write_text(f"{','.join(f'c{c}' for c in range(300))},y\n{rows}")
    assert open_data(path, "table").train["numerical"].shape[1] > 290
    assert set(seen) == {1}
    assert len(seen) <= 200  # of its first columns


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_named_set_of_another_kind_is_refused_and_one_of_tfds_read_once(kind, monkeypatch):
    read = []

    def load_tfds(name, folder, **more):
        read.append(name)
        part = {"angle": np.arange(4.0)}
        return Splits(part, part, part, Info(name, "Angles", "", "", "regression", ""))

    monkeypatch.setattr("dl.data.sets.tfds.load_tfds", load_tfds)
    for _ in range(2):
        with raises("set-of-another-kind", "Angles"):
            open_data(f"tfds:{kind}", kind)
    assert read == [kind]
