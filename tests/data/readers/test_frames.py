"""Whatever a library writes is read back equal; what cannot be read is named by line."""

import csv
import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises
from pyarrow import csv as pa_csv
from pyarrow import feather, parquet

from dl.core.errors import UserError
from dl.data.readers.frames import numbers, read_frame, words
from dl.data.readers.times import times

quick = settings(max_examples=40, deadline=None)
TEXT = st.text(
    st.one_of(
        st.sampled_from("\"',;\t| .\n\rab0-é€漢"),
        st.characters(exclude_categories=("Cs",), exclude_characters="\x00\ufeff"),
    ),
    max_size=6,
)


def tables_of(cell, columns=3):
    return st.integers(1, columns).flatmap(
        lambda width: st.lists(
            st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=6
        )
    )


def cells(frame):
    return [list(row.values()) for row in frame.columns.to_pylist()]


@quick
@given(
    tables_of(TEXT, 4),
    st.sampled_from(",;\t|:"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_what_pythons_csv_module_writes_is_read_back_equal(rows, separator, end, quoting):
    # The module quotes only the line ends it writes: these no reader could tell from an end.
    if end == "\r" or any(row[-1].endswith("\r") for row in rows):
        quoting = csv.QUOTE_ALL
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
    names = [f"h{place}" for place in range(len(rows[0]))]
    writer.writerows([names, *rows])
    data = file.getvalue().encode()
    frame = read_frame(data, separator=separator, header=True)
    assert frame.headings == names
    assert [[cell or "" for cell in row] for row in cells(frame)] == rows
    if separator != ":":  # found without being told
        assert read_frame(data, header=True).columns.equals(frame.columns) or len(names) == 1


@quick
@given(tables_of(st.one_of(st.none(), TEXT)))
def test_what_polars_and_pyarrow_write_is_read_back_equal_with_nulls(rows):
    pl = pytest.importorskip("polars")

    names = [f"h{place}" for place in range(len(rows[0]))]
    columns = {n: [row[i] for row in rows] for i, n in enumerate(names)}
    written = pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String)).write_csv()
    assert cells(read_frame(written.encode(), separator=",", header=True)) == rows
    file = io.BytesIO()
    pa_csv.write_csv(pa.table({n: pa.array(c, pa.string()) for n, c in columns.items()}), file)
    assert cells(read_frame(file.getvalue(), separator=",", header=True)) == rows


FLOATS = st.one_of(
    st.none(), st.floats(-1e12, 1e12), st.integers(-(10**6), 10**6).map(float), st.just(0.5)
)


@quick
@given(
    st.lists(st.tuples(FLOATS, FLOATS), min_size=2, max_size=8),
    st.sampled_from([(",", "."), (";", ","), (";", "."), ("\t", ","), ("|", ".")]),
    st.sampled_from(["", "NA", "-", "n/a", "NULL"]),
)
def test_numbers_that_pandas_writes_are_read_back_equal(rows, marks, missing):
    pd = pytest.importorskip("pandas")

    separator, decimal = marks
    values = np.array(rows, np.float64)
    values[0] = 0.25, 1.5  # a mark to be found
    table = pd.DataFrame(values, columns=["x", "y"])
    text = table.to_csv(sep=separator, decimal=decimal, na_rep=missing, index=False)
    frame = read_frame(text.encode())
    assert (frame.decimal, frame.headings) == (decimal, ["x", "y"])
    for place, name in enumerate("xy"):
        found = numbers(frame, name)
        np.testing.assert_array_equal(found.values, values[:, place])
        assert not found.bad.any()
        np.testing.assert_array_equal(found.missing, np.isnan(values[:, place]))


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1", 1.0),
        ("+5", 5.0),
        ("-.5", -0.5),
        ("5.", 5.0),
        (" 1e5 ", 1e5),
        ("4.9e-324", 5e-324),
        ("1700000000.25", 1700000000.25),
        *(
            (bad, None)
            for bad in ("1_5", "0x10", "1,5,2", "--5", "1d5", "inf", "1e400", "１", "1 5")
        ),
    ],
)
def test_a_number_is_what_a_csv_reader_takes_for_one(cell, value):
    found = numbers(read_frame(f"a;b\n1;2\n2;{cell}\n".encode(), decimal="."), "b")
    assert found.bad.tolist() == [False, value is None]
    assert value is None or found.values[1] == value


@pytest.mark.parametrize(
    ("text", "marks", "values"),
    [
        ("x;y\n1,5;2\n0,25;3\n", (",", ""), [1.5, 0.25]),
        ("x;y\n1.234,5;2\n0,25;3\n", (",", "."), [1234.5, 0.25]),
        ("x;y\n1,100;2\n2,200;3\n", (",", ""), [1.1, 2.2]),
        ('x,y\n"1,100",2.5\n"2,200",3\n', (".", ","), [1100, 2200]),
        ('x,y\n"1,100",2\n"2,200",3\n', (".", ","), [1100, 2200]),
        ('x,y\n"1,5",2\n"2,25",3\n', (",", ""), [1.5, 2.25]),
        ("x;y\n1'234.5;2\n7;3\n", (".", "'"), [1234.5, 7]),
        ("x;y\n1\u202f234,5;2\n7;3\n", (",", "\u202f"), [1234.5, 7]),
        ("x,y\n1.5,2\n1e3,3\n", (".", ""), [1.5, 1000]),
    ],
)
def test_decimal_and_thousands_marks_are_found_and_shown(text, marks, values):
    frame = read_frame(text.encode())
    assert (frame.decimal, frame.thousands) == marks
    assert numbers(frame, "x").values.tolist() == values
    assert any("decimal" in note for note in frame.notes) == (marks != (".", ""))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_marked_encodings_are_read_and_others_named(encoding):
    text = "größe,ort\n1,Åbo\n2,東京\n"
    frame = read_frame(text.encode(encoding))
    assert cells(frame) == [["1", "Åbo"], ["2", "東京"]]
    assert frame.headings == ["größe", "ort"]


def test_a_file_that_is_no_text_is_not_said_to_be_in_another_encoding():
    with raises("encoding", "no file of text"):
        read_frame(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR and more\n")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "latin-1"])
def test_an_encoding_that_must_be_told(encoding):
    data = "größe,ort\n1,Åbo\n".encode(encoding)
    with raises("encoding", "encoding="):
        read_frame(data)
    assert read_frame(data, encoding=encoding).headings == ["größe", "ort"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_through_blank_lines_and_cells_of_several_lines(end):
    text = '\n  \na,b\n"1\n2",x\n\n,\n3,y\n   \n4,z\n\n'.replace("\n", end)
    frame = read_frame(text.encode())
    assert cells(frame) == [[f"1{end}2", "x"], [None, None], ["3", "y"], ["4", "z"]]
    assert frame.lines.tolist() == [4, 7, 8, 10]
    assert frame.show("b", [2, 3]) == "line 8: 'y'; line 10: 'z'"


@pytest.mark.parametrize(
    ("text", "words_"),
    [
        ("a,b\n1,2\n\n3\n", ("table-ragged", "line 4: 1 cells, expected 2", "quotes around")),
        ('a,b\n"1\n2",3\n4,5,6\n', ("table-ragged", "line 4: 3 cells, expected 2")),
        ('a,b\n"1,2\n3,4\n', ("table-ragged", "line 2:", "never closed")),
        ('a,b\n1,"2\n3,4\n', ("table-open-quote", "line 2:", "never closed")),
        ("a,a\n1,2\n", ("table-heading-twice", "'a'")),
        ("a,,c\nx,2,3\ny,4,5\n", ("table-no-heading", "column 2")),
        (",a\n0,1\n1,2\n", ("table-no-heading", "to_csv(index=False)")),
        ("a,b\n", ("table-empty",)),
        (" \n\n", ("table-empty",)),
        ("", ("table-empty",)),
        ("PK\x03\x04...", ("table-spreadsheet",)),
    ],
)
def test_what_is_no_table_is_named_in_one_line(text, words_):
    with raises(*words_):
        read_frame(text.encode())


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        ("1,2.5,x\n3,4,y\n", None),
        ("A11,6,x\nA12,7,y\n", None),
        ("red,round\nblue,flat\nred,round\n", None),
        ("a,b\n1,2\n", ["a", "b"]),
        ("name,town\nAda,Oslo\n", ["name", "town"]),
        ("0,1,2\n5,6,7\n", ["0", "1", "2"]),
        ("country,2020\nOslo,n/a\nRome,-\n", None),
    ],
)
def test_a_file_without_headings_is_noticed(text, headings):
    frame = read_frame(text.encode())
    first = text.split("\n")[0].split(",")
    if headings is None:
        assert frame.headings == [f"column_{place}" for place in range(1, len(first) + 1)]
        assert cells(frame)[0] == first
        assert "is a row, not headings" in frame.notes[-1]
        assert read_frame(text.encode(), header=True).headings == first
        names = [f"n{place}" for place in range(len(first))]
        assert read_frame(text.encode(), header=names).headings == names
    else:
        assert frame.headings == headings


def test_a_cell_of_any_length_and_a_spreadsheets_separator_line():
    assert words(read_frame(f"a,b\n{'x' * 3_000_000},1\n".encode()), "a")[0] == "x" * 3_000_000
    frame = read_frame(b"sep=;\r\na;b\r\n1;2\r\nx;3,4,5\r\n")
    assert (frame.headings, frame.lines.tolist()) == (["a", "b"], [3, 4])
    assert cells(read_frame(b'a, b, c\n1, "x, ""y""", 2\n')) == [["1", 'x, "y"', " 2"]]
    text = b"a,b\n1,'-1'\n2,'1,5'\n"
    assert cells(read_frame(text, quote="'")) == [["1", "-1"], ["2", "1,5"]]
    assert cells(read_frame(b'a,b\n"1,x\n2,y"\n', quote="")) == [['"1', "x"], ["2", 'y"']]


def test_typed_files_and_frames_keep_their_types(tmp_path):
    pl = pytest.importorskip("polars")

    pd = pytest.importorskip("pandas")
    values = {"when": np.array(["2020-01-01", "2020-01-03"], "datetime64[s]"), "x": [1.5, None]}
    table = pa.table(
        {**values, "word": ["1", "two"], "kind": pa.array(["b", "a"]).dictionary_encode()}
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    feather.write_feather(table, tmp_path / "t.feather")
    with (
        pa.OSFile(str(tmp_path / "t.arrows"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    sources = [tmp_path / "t.parquet", tmp_path / "t.feather", tmp_path / "t.arrows", table]
    sources += [
        pl.from_arrow(table),
        table.to_pandas(),
        dict(zip(table.column_names, table, strict=True)),
    ]
    for source in sources:
        frame = read_frame(source)
        assert frame.lines is None
        found = numbers(frame, "x")
        np.testing.assert_array_equal(found.values, [1.5, np.nan])
        assert found.missing.tolist() == [False, True]
        assert (
            times(frame, "when").values.astype("datetime64[s]").tolist() == values["when"].tolist()
        )
        assert words(frame, "kind").tolist() == ["b", "a"]
        assert numbers(frame, "word").bad.tolist() == [False, True]
    indexed = read_frame(pd.DataFrame({"a": [1, 2]}, index=["p", "q"]))
    assert "index is left out" in indexed.notes[0]
    with raises("option-misplaced", "separator"):
        read_frame(table, separator=";")
    with raises("not-a-table"):
        read_frame([1, 2])


@pytest.mark.parametrize(
    ("cells_", "expected", "choices"),
    [
        (["2020-01-02", "2020-01-03 04:05"], ["2020-01-02", "2020-01-03T04:05"], 0),
        (["2020-01-02T00:00:00Z", "2020-01-03T04:00:00+02:00"], ["2020-01-02", "2020-01-03T02"], 0),
        (["2020-01-02 00:00:00.123456789"] * 2, ["2020-01-02T00:00:00.123456789"] * 2, 0),
        (["31.12.2020", "n/a"], ["2020-12-31", "NaT"], 1),
        (["12/31/2020", "1/2/2020"], ["2020-12-31", "2020-01-02"], 1),
        (["3/4/2020", "1/2/2020"], ["2020-04-03", "2020-02-01"], 2),
        (["4/4/2020", "2/2/2020"], ["2020-04-04", "2020-02-02"], 1),
    ],
)
def test_times_are_read_by_format_and_a_choice_is_told(cells_, expected, choices):
    frame = read_frame(("t,x\n" + "".join(f"{cell},1\n" for cell in cells_)).encode())
    found = times(frame, "t")
    np.testing.assert_array_equal(found.values, np.array(expected, "datetime64[ns]"))
    assert not found.bad.any()
    assert len(found.choices) == choices


def test_a_day_that_does_not_exist_is_bad():
    frame = read_frame(b"t,x\n2020-02-28,1\n2020-02-30,2\n")
    assert times(frame, "t").bad.tolist() == [False, True]
    frame = read_frame(b"t,x\n28.02.2020,1\n30.02.2020,2\n", dates="%d.%m.%Y")
    assert frame.show("t", np.flatnonzero(times(frame, "t").bad)) == "line 3: '30.02.2020'"


def test_missing_marks_are_the_users_where_given():
    text = b"x,y\n-,1\n-999,2\n5,3\n"
    found = numbers(read_frame(text), "x")
    assert (found.notes, found.values[1]) == (("taken as missing: '-' 1",), -999)
    found = numbers(read_frame(text, missing=["-999"]), "x")
    assert found.notes == ("taken as missing: '-999' 1",)
    assert found.bad.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"separator": ""}, "table-options"),
        ({"separator": ",,"}, "table-options"),
        ({"separator": "§"}, "table-options"),
        ({"decimal": ";"}, "table-options"),
        ({"thousands": "."}, "table-options"),
        ({"missing": "NA"}, "table-options"),
        ({"encoding": "utf-99"}, "unknown"),
        ({"header": ["a"]}, "table-header-count"),
    ],
)
def test_options_that_cannot_be_are_refused(options, code):
    with raises(code, next(iter(options))):
        read_frame(b"a,b\n1,2\n", **options)


def _spoilt(kind, how, path):
    """A file one of whose words is no UTF-8, or leads out of memory, or whose mark is spoilt."""
    table = pa.table({"x": [1.0, 2.0, 3.0], "word": ["first", "second", "third"]})
    if how == "offsets":
        offsets = pa.py_buffer(np.array([0, 5, 2**30, 16], np.int32))
        bytes_of = pa.py_buffer(b"firstsecondthird")
        words = pa.Array.from_buffers(pa.string(), 3, [None, offsets, bytes_of])
        table = pa.table({"x": table["x"], "word": words})
    if kind == "parquet":
        parquet.write_table(table, path, compression="none", use_dictionary=False)
    else:
        with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(path, table.schema) as file:
            file.write_table(table)
    content = path.read_bytes()
    spoilt = {
        "text": (b"second", b"sec\xffnd"),
        "name": (b"word", b"w\xffrd"),
        "mark": (content[:8], b"ARROX1\0\0"),
    }
    path.write_bytes(content.replace(*spoilt[how]) if how in spoilt else content)


@pytest.mark.parametrize("disk", [False, True], ids=["in memory", "on disk"])
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *(("file", how) for how in ("text", "name", "offsets", "mark")),
        *(("stream", how) for how in ("text", "name", "offsets")),
        ("parquet", "text"),
        ("parquet", "name"),
    ],
)
def test_a_typed_file_that_lies_is_refused_in_a_line(tmp_path, kind, how, disk):
    _spoilt(kind, how, tmp_path / "a.table")
    with pytest.raises(UserError, match=r"a\.table"):
        read_frame(tmp_path / "a.table", disk=disk)
