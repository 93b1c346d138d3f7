"""Tables of one's own: what columns are taken for is shown, parts are honoured, other files are read alike."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mistakes import raises

import dl
from dl.data.own import tested
from dl.data.own.corpus import of_tables
from dl.data.own.slices import slices_of
from dl.data.own.table import OwnTable, read_alike


@pytest.fixture
def loans(tmp_path):
    rows = [
        f"{20 + n},{'Oslo' if n % 3 else 'Bergen'},{'yes' if n % 2 else 'no'}" for n in range(40)
    ]
    path = tmp_path / "loans.csv"
    path.write_text("\n".join(["age,town,repaid", *rows]))
    return path


def sizes(splits):
    return {name: len(part["label"]) for name, part in splits.parts.items()}


def shown(splits):
    return {line.name: f"{line.taken_for} {line.more}" for line in splits.info.details["lines"]}


def test_ones_own_is_cut_into_folds_and_told_of(loans, capsys):
    first, second = (dl.data.open(loans, "table", target="repaid", fold=fold) for fold in (0, 1))
    assert first.info.classes == ("no", "yes")
    assert sizes(first) == {"train": 26, "validation": 6, "test": 8}
    assert not np.array_equal(first.test["numerical"], second.test["numerical"])
    assert "numerical" in shown(first)["age"]
    assert "categorical" in shown(first)["town"]
    assert "fold 1 of five" in shown(second)["parts"]
    assert "no: 20, yes: 20" in " ".join(capsys.readouterr().err.split())


def test_a_table_of_texts_names_the_script_that_learns_from_them(tmp_path):
    rows = "".join(f"case {n} was seen by the doctor,{n % 2}\n" for n in range(300))
    (tmp_path / "a.csv").write_text(f"report,ill\n{rows}")
    with raises("table-no-columns", "dl run sentiment --text report"):
        dl.data.open(tmp_path / "a.csv", "table")


def test_the_target_is_proposed_and_shown(tmp_path, loans):
    assert "proposed" in shown(dl.data.open(loans, "table"))["repaid"]
    assert "proposed" not in shown(dl.data.open(loans, "table", target="repaid"))["repaid"]
    path = tmp_path / "first.csv"
    path.write_text("Class,x\n" + "".join(f"{'ab'[n % 2]},{n}\n" for n in range(20)))
    assert dl.data.open(path, "table").info.details["target"] == "Class"


@pytest.mark.parametrize("write", ["parquet", "pandas", "polars"])
def test_files_and_frames_are_one(tmp_path, loans, write):
    frame = pd.read_csv(loans)
    if write == "parquet":
        frame.to_parquet(source := tmp_path / "loans.parquet")
    else:
        source = frame if write == "pandas" else pl.from_pandas(frame)
    a, b = dl.data.open(loans, "table"), dl.data.open(source, "table")
    for name, columns in a.parts.items():
        for column, values in columns.items():
            np.testing.assert_array_equal(b.parts[name][column], values)
    assert len(a.info.digests["loans.csv"]) == 64


def test_parts_come_from_a_column_a_group_or_time(tmp_path):
    rows = [f"{2 * n},{n // 4},{['train', 'dev', 'test'][n % 3]},{n % 2}" for n in range(40)]
    path = tmp_path / "t.csv"
    path.write_text("\ufeffday;patient;part;y\r\n" + "\r\n".join(rows).replace(",", ";"))
    by_column = dl.data.open(path, "table", split="part")
    assert sizes(by_column) == {"train": 14, "validation": 13, "test": 13}
    assert by_column.train["numerical"].shape[1] == 2, "the part is no feature"
    grouped = dl.data.open(path, "table", group="patient", ignore=("part",))
    days = [set((part["numerical"][:, 0] // 8).tolist()) for part in grouped.parts.values()]
    assert not days[0] & days[1]
    assert not days[0] & days[2]
    shuffled = pd.read_csv(path, sep=";").sample(frac=1, random_state=0)
    later = dl.data.open(shuffled, "table", time="day", ignore=("part",))
    assert later.test["numerical"].min() > later.validation["numerical"].max() - 1
    with raises("options-exclusive", "--fold"):
        dl.data.open(path, "table", group="patient", fold=1)
    with raises("times-not-dates", "--time part"):
        dl.data.open(path, "table", time="part")


def test_a_column_that_numbers_the_rows_is_no_feature(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("policy,age,y\n" + "".join(f"{n},{n % 7},{n // 20}\n" for n in range(1, 41)))
    splits = dl.data.open(path, "table", target="y")
    assert "numbers the rows" in shown(splits)["policy"]
    assert splits.train["numerical"].shape[1] == 1
    kept = dl.data.open(path, "table", target="y", ignore=("age",))  # there is no other
    assert kept.train["numerical"].shape[1] == 1


def test_a_column_of_parts_is_taken_whatever_it_is_called(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "a,b,y\n" + "".join(f"{n},{['train', 'test'][n % 2]},{n % 3}\n" for n in range(40))
    )
    assert sizes(dl.data.open(path, "table"))["test"] == 20


def test_a_folder_of_parts(tmp_path, loans):
    folder = tmp_path / "parts"
    folder.mkdir()
    lines = loans.read_text().splitlines()
    (folder / "train.csv").write_text("\n".join(lines[:31]))
    (folder / "dev.csv").write_text("\n".join([lines[0], *lines[31:]]))
    (folder / "test.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    splits = dl.data.open(folder, "table")
    assert sizes(splits) == {"train": 30, "validation": 10}
    assert "no column 'repaid'" in shown(splits)["test.csv"]
    (folder / "test.csv").write_text("age,repaid\n3,yes\n")
    with raises("table-columns-differ", "test.csv", "'town'"):
        dl.data.open(folder, "table")
    (folder / "train.csv").unlink()
    with raises("table-folder", "dev.csv, test.csv", "train.csv"):
        dl.data.open(folder, "table")


def test_a_table_cut_into_numbered_files_is_one(tmp_path, loans):
    lines = loans.read_text().splitlines()
    folder = tmp_path / "numbered"
    folder.mkdir()
    for number, start in zip((2, 9, 10), (1, 8, 20), strict=True):
        end = {1: 8, 8: 20}.get(start)
        (folder / f"part-{number}.csv").write_text("\n".join([lines[0], *lines[start:end]]))
    whole, cut = (dl.data.open(path, "table") for path in (loans, folder))
    assert shown(cut)["tables"] == "3 part-2.csv ... part-10.csv"
    alike = dl.data.open_alike(folder, whole)
    every = dl.data.open_alike(loans, whole)
    for name, column in every.items():
        np.testing.assert_array_equal(column, alike[name])
        for part, rows in whole.parts.items():
            np.testing.assert_array_equal(rows[name], cut.parts[part][name])
    with tested.tested_on(folder, alike=True, ordered=True, fields={}) as wanted:
        dl.data.open(loans, "table")
    for town, rows in slices_of(wanted, ["town"])["town"].items():
        assert {lines[1 + row].split(",")[1] for row in rows} == {town}
    (folder / "part-9.csv").write_text("age,repaid\n3,yes\n")
    with raises("table-columns-differ", "part-9.csv", "'town'"):
        dl.data.open(folder, "table")
    (folder / "part-9.csv").unlink()
    for number, shard in ((2, "loans-00000-of-00003.csv"), (10, "loans-00002-of-00003.csv")):
        (folder / f"part-{number}.csv").rename(folder / shard)
    (folder / "_SUCCESS").touch()  # as Spark leaves it
    told = shown(dl.data.open(folder, "table"))["loans"]
    assert told == "2 of 3 files by their names: the others are not here"
    assert of_tables(folder)
    (folder / "loans-00000-of-00001.csv").write_text(loans.read_text())
    with raises("table-folder", "loans-00000-of-00001.csv"):
        dl.data.open(folder, "table")


def test_rows_without_a_target_are_skipped_and_counted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{n},{n / 7 if n % 5 else ''}\n" for n in range(50)))
    splits = dl.data.open(path, "table")
    assert sum(sizes(splits).values()) == 40
    assert "10 rows" in shown(splits)["skipped"]


def test_what_training_never_shows_counts_as_missing(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"{'ab'[n % 2] if n < 9 else 'rare'},{n % 2},train" for n in range(9)]
    rows += ["rare,1,test", "a,0,test"]
    path.write_text("kind,y,part\n" + "\n".join(rows))
    splits = dl.data.open(path, "table", target="y", split="part", hold_out=(0.0, 0.1))
    assert splits.test["categorical"].tolist() == [[0], [1]]
    assert "kind: rare" in shown(splits)["never in train"]
    alike, _ = read_alike(path, splits.info, OwnTable())
    assert alike["categorical"][-2:].tolist() == [[0], [1]]


def test_another_file_is_read_as_the_one_trained_on(tmp_path, loans):
    splits = dl.data.open(loans, "table")
    other = pd.DataFrame(
        {"repaid": ["yes", "no"], "extra": [1, 2], "town": ["Bergen", "Paris"], "age": [4, 2.5]}
    )
    columns, lines = read_alike(other, splits.info, OwnTable())
    assert columns["numerical"].tolist() == [[4.0], [2.5]]
    assert columns["categorical"].tolist() == [[1], [0]]
    assert columns["label"].tolist() == [1, 0]
    said = " ".join(f"{line.name} {line.taken_for} {line.more}" for line in lines)
    assert "Paris" in said
    assert "extra left out" in said
    assert "label" not in read_alike(other.drop(columns="repaid"), splits.info, OwnTable())[0]
    with raises("table-columns-differ", "'age'"):
        read_alike(other.drop(columns="age"), splits.info, OwnTable())
    with raises("class-unseen", "repaid", "maybe", "no, yes"):
        read_alike(other.assign(repaid=["yes", "maybe"]), splits.info, OwnTable())
    with raises("cell-unreadable", "'age'", "old"):
        read_alike(
            other.assign(age=["4", "old"]).to_csv(index=False).encode(), splits.info, OwnTable()
        )


def test_times_of_another_file_are_in_the_unit_of_training(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("when,y\n" + "".join(f"2024-01-{n + 1:02}T06:00,{n % 2}\n" for n in range(20)))
    info = dl.data.open(path, "table").info
    (value,), _ = (
        read_alike(pd.DataFrame({"when": ["1970-01-02"]}), info, OwnTable())[0]["numerical"],
        (),
    )
    assert value == 86400


def test_options_of_the_one_are_refused_for_the_other(loans):
    with raises("option-misplaced", "--target", "leave these out"):
        dl.data.open("pima", "table", target="x")
    with raises("option-misplaced"):
        dl.data.open("adult", "table", categorical=("x",))
    with raises("split-fixed", "adult"):
        dl.data.open("adult", "table", fold=2)
    with raises("column-unknown", "--target", "repayd", "did you mean 'repaid'"):
        dl.data.open(loans, "table", target="repayd")
    with raises("options-exclusive", "--ignore repaid"):
        dl.data.open(loans, "table", ignore=("repaid",))


def test_rows_of_test_change_nothing_of_what_is_trained_on(tmp_path):
    opened = []
    for name, new in (("a", "x"), ("b", "NEW")):
        test = "".join(
            f"{n},{'AAA' if new == 'NEW' else 'x'},{n % 2},test\n{n},{new},1,test\n"
            for n in range(9)
        )
        train = "".join(f"{n},{'xyz'[n % 3]},{n % 2},train\n" for n in range(30))
        (tmp_path / f"{name}.csv").write_text(f"a,b,y,part\n{train}{test}")
        opened.append(dl.data.open(tmp_path / f"{name}.csv", "table", target="y"))
    for name, column in opened[0].train.items():
        np.testing.assert_array_equal(column, opened[1].train[name])
    kept = [s.info.details["columns"][1].categories for s in opened]
    assert kept == [("x", "y", "z")] * 2
    assert set(opened[1].test["categorical"].ravel()) == {0}
    assert "b: AAA, NEW" in shown(opened[1])["never in train"]
    alike, _ = read_alike(tmp_path / "b.csv", opened[1].info, OwnTable())
    np.testing.assert_array_equal(alike["categorical"][30:], opened[1].test["categorical"])


def test_a_class_that_is_never_trained_on_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "x,y,part\n" + "".join(f"{n},{'ab'[n % 2]},train\n" for n in range(8)) + "9,c,test\n"
    )
    with raises("class-untrained", "'c'"):
        dl.data.open(path, "table", target="y", split="part")


def test_numbers_parted_by_blanks(tmp_path):
    path = tmp_path / "sat.trn"
    path.write_text("".join(f"{n} {n + 1} {n % 3 + 1}\n" for n in range(60)))
    splits = dl.data.open(path, "table", headings=("red", "green", "soil"))
    assert splits.info.classes == ("1", "2", "3")
    assert splits.train["numerical"].shape == (48, 2)


def test_columns_aligned_by_blanks(tmp_path):
    rows = [("New York", "12.5", "7"), ("Rome", "-3", "12"), ("Los Angeles", "100.25", "8")] * 10
    file = tmp_path / "aligned.dat"
    file.write_text(
        "city          temp   month\n" + "".join(f"{a:<12}{b:>8}  {c:>4}\n" for a, b, c in rows)
    )
    splits = dl.data.open(file, "table", target="month")
    lines = {line.name: line for line in splits.info.details["lines"]}
    assert lines["city"].taken_for == "categorical"
    assert lines["temp"].more == "-3 ... 100.25"
    assert "separated by blanks" in lines["guessed"].more + lines["guessed"].taken_for


def test_blanks_tabs_and_quotes_as_in_auto_mpg(tmp_path):
    row = '18.0   8   307.0      {n}      3504.      12.0   70  1\t"chevrolet chevelle {n}"\n'
    (tmp_path / "auto.data").write_text("".join(row.format(n=n) for n in range(30)))
    splits = dl.data.open(tmp_path / "auto.data", "table", target="column_4")
    assert {"column_8", "column_9"} <= {line.name for line in splits.info.details["lines"]}


@pytest.mark.parametrize(
    ("content", "options", "code", "flag", "field"),
    [
        (b"a,caf\xe9\n1,2\n3,4\n", {}, "encoding", "--encoding cp1252", "encoding='cp1252'"),
        (b"a,b,a\nx,y,z\nx,y,y\n", {}, "table-heading-twice", "--headings NAME", "headings=(...)"),
        (
            b"a,b\n1,2\n",
            {"headings": ("a",)},
            "table-header-count",
            "--headings gives",
            "headings= ",
        ),
        (
            b"a,b\n1,2\n",
            {"separator": ";;"},
            "table-options",
            "--separator must",
            "separator= must",
        ),
        (
            b"a,b\n01/02/2020,2\n03/04/2020,5\n",
            {"target": "b"},
            "dates-ambiguous",
            "--dates %d/%m/%Y",
            "dates='%d/%m/%Y'",
        ),
    ],
)
def test_a_mistake_names_the_flag_or_the_field(tmp_path, content, options, code, flag, field):
    (tmp_path / "t.csv").write_bytes(content)
    with raises(code, field):
        dl.data.open(tmp_path / "t.csv", "table", **options)
    with raises(code, flag):
        dl.data.open(tmp_path / "t.csv", "table", OwnTable(**options))


CONTROLS = "".join(map(chr, [1, *range(14, 32)]))
PLAIN = "a,b,y\n" + "".join(f"{n},{n % 3},{'np'[n % 2]}\n" for n in range(60))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("text", "fields", "code"),
    [
        (f"{CONTROLS}\nabc\nx\n", {}, "table-no-columns"),
        ("sep=é\na,b\n1,2\n", {}, "table-options"),
        (PLAIN, {"separator": "\0"}, "table-options"),
        (PLAIN, {"encoding": "undefined"}, "encoding"),
        (PLAIN, {"encoding": "punycode"}, "encoding"),
        (PLAIN, {"encoding": "base64"}, "unknown"),
        (PLAIN, {"encoding": "utf\0-8"}, "unknown"),
        (PLAIN, {"hold_out": 0.2}, "hold-out-impossible"),
        (PLAIN, {"hold_out": (0.1, 0.1, 0.1)}, "hold-out-impossible"),
        (PLAIN, {"hold_out": ("a", "b")}, "hold-out-impossible"),
        (PLAIN, {"task": "guess"}, "unknown"),
        (f'{{"a": {10**40}, "y": "n"}}\n' * 9, {}, "number-too-large"),
        ('{"a": "\\ud800", "y": "n"}\n' * 9, {}, "json-unreadable"),
        ('{"\\ud800": 1, "y": "n"}\n' * 9, {}, "json-unreadable"),
        ('{"a":' * 99 + "1" + "}" * 99, {}, "json-unreadable"),
    ],
)
def test_odd_files_and_options_get_one_line(tmp_path, text, fields, code, stream):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with raises(code):
        dl.data.open(path, "table", stream=stream, **fields)


def test_whole_numbers_of_python_beyond_64_bits_get_one_line():
    with raises("not-a-table"):
        dl.data.open({"a": [10**40] * 9, "y": list("npnpnpnpn")}, "table")


def test_columns_of_lists_are_left_out_and_those_with_fields_are_several(tmp_path):
    rows = {"l": [[1], [2]] * 9, "s": [{"x": n} for n in range(18)], "y": list("np") * 9}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    lines = shown(dl.data.open(tmp_path / "t.parquet", "table"))
    assert "column l is left out: its cells are list" in lines["guessed"]
    assert "numerical" in lines["s.x"]
    texts = [{"en": f"a good day {n}", "de": f"ein guter Tag {n}"} for n in range(30)]
    pq.write_table(pa.table({"translation": texts}), tmp_path / "p.parquet")
    pairs = dl.data.open(tmp_path / "p.parquet", "pairs")
    assert set(pairs.info.details["languages"]) == {"en", "de"}


def test_refusals_say_what_is_so(tmp_path):
    columns = pa.table([pa.array([1, 2]), pa.array([3, 4])], names=["a", "a"])
    pq.write_table(columns, tmp_path / "twice.parquet")
    with raises("table-heading-twice", "'a'"):
        dl.data.open(tmp_path / "twice.parquet", "table")
    path = tmp_path / "t.csv"
    for dates in ("%Q", "%", "", "day"):
        path.write_text(PLAIN)
        with raises("table-options", f"dates={dates!r}"):
            dl.data.open(path, "table", dates=dates)
    path.write_text(
        "n,part,y\n" + "".join(f"{n},{'train' if n else ''},{n % 2}\n" for n in range(30))
    )
    with raises("split-word", "has empty cells"):
        dl.data.open(path, "table", split="part", target="y")
    path.write_text(
        "part,y\n" + "".join(f"{'train' if n else 'test'},{n % 2}\n" for n in range(30))
    )
    with raises("table-no-columns", "'part' is ignored: says the part"):
        dl.data.open(path, "table", split="part", target="y")
    path = tmp_path / "lists.parquet"
    pq.write_table(pa.table({"l": [[1], [2]] * 9, "x": range(18), "y": list("np") * 9}), path)
    with raises("cell-unreadable", "column l is left out: its cells are list"):
        dl.data.open(path, "table", target="l")
