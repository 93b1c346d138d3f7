"""Tables too large for memory: the same rows, statistics and batches from disk as in memory."""

import gzip
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mistakes import raises
from pyarrow import feather, parquet

import dl
from dl.baselines.trees import boosted_trees, tree_predictions
from dl.data import tables
from dl.data.batches.streams import StreamBatches
from dl.data.readers import on_disk


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(on_disk, "_BLOCK", 2**14)


def frame(rows=3000):
    random = np.random.default_rng(0)
    made = {
        "age": random.integers(18, 90, rows).astype(float),
        "town": random.choice(["Oslo", "Bergen, west", 'the "old"\ntown', "NA"], rows),
        "day": pd.date_range("2020-01-01", periods=rows).strftime("%Y-%m-%d"),
        "income": random.normal(0, 1e4, rows).round(2),
        "code": random.choice([1, 2, 3], rows),
        "one": "same",
        "who": [f"name {n}" for n in range(rows)],
        "patient": random.integers(0, 300, rows),
        "repaid": random.choice(["yes", "no"], rows),
    }
    table = pd.DataFrame(made)
    table.loc[random.random(rows) < 0.1, "income"] = np.nan
    table.loc[random.random(rows) < 0.1, "town"] = None
    return table


def same(source, **options):
    """Both ways to open ``source`` agree in all that is said but for the line about memory."""
    whole, disk = (dl.data.open(source, "table", stream=s, **options) for s in (False, True))
    assert list(whole.parts) == list(disk.parts)
    for name, columns in whole.parts.items():
        assert list(columns) == list(disk.parts[name])
        for column, values in columns.items():
            found = disk.parts[name][column]
            np.testing.assert_array_equal(found, values, strict=True)
            assert isinstance(found, np.memmap) or not found.size
    lines, others = ([*splits.info.details["lines"]] for splits in (whole, disk))
    of_both = [
        [line for line in each if line.name != "memory" and line.taken_for != "read as table"]
        for each in (lines, others)
    ]
    assert of_both[0] == of_both[1]
    assert next(line.more for line in others if line.name == "memory").endswith("--stream")
    assert whole.info.details["columns"] == disk.info.details["columns"]
    assert whole.info.details["unseen"] == disk.info.details["unseen"]
    return whole, disk


@pytest.mark.parametrize("options", [
    {},
    {"group": "patient"},
    {"fold": 2},
    {"time": "day"},
    {"target": "income"},
    {"target": "code", "task": "regression"},
    {"categorical": ("code",), "ignore": ("who",), "in_order": True},
])  # fmt: skip
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_rows_from_disk_are_those_in_memory(tmp_path, ending, options):
    path = tmp_path / f"loans.{ending}"
    made = frame()
    if ending == "csv":
        made.to_csv(path, index=False)
    else:
        made.assign(day=pd.to_datetime(made["day"])).to_parquet(path)
    same(path, **options)


def test_every_way_to_write_a_table_streams(tmp_path):
    made = frame(1500)
    made["town"] = made["town"].astype("category")
    arrow = pa.Table.from_pandas(made)
    parquet.write_table(arrow, tmp_path / "a.parquet", row_group_size=100)
    feather.write_feather(arrow, str(tmp_path / "b.feather"), chunksize=200)
    made.to_json(tmp_path / "c.jsonl", orient="records", lines=True)
    made.to_csv(tmp_path / "d.csv", index=False, sep=";", decimal=",", encoding="utf-16")
    made.to_csv(tmp_path / "e.csv.gz", index=False)
    text = made.drop(columns="town").to_csv(index=False)
    (tmp_path / "f.csv").write_bytes(text.replace("\n", "\r").encode())
    (tmp_path / "g.csv").write_bytes(b"\xef\xbb\xbfsep=,\r\n" + text.replace("\n", "\r\n").encode())
    (tmp_path / "h.txt").write_text(made[["age", "code"]].to_string(index=False))
    (tmp_path / "i.csv").write_text("\n\n" + text.replace(",yes", ', "yes"').replace("same", "\r"))
    (tmp_path / "j.csv").write_text("\n".join(text.split("\n")[1:]))
    for path in sorted(tmp_path.iterdir()):
        same(path)


def test_a_folder_of_parts_streams(tmp_path):
    made = frame()
    made[:2000].to_csv(tmp_path / "train.csv", index=False)
    made[2000:2500].to_csv(tmp_path / "dev.csv", index=False)
    made[2500:].drop(columns="repaid").to_csv(tmp_path / "test.csv", index=False)
    same(tmp_path)


def test_rows_without_a_target_are_left_out(tmp_path):
    made = frame()
    made.loc[::7, "repaid"] = None
    made.to_parquet(tmp_path / "t.parquet")
    same(tmp_path / "t.parquet")
    made.to_csv(tmp_path / "t.csv", index=False)
    same(tmp_path / "t.csv", time="day")


@pytest.mark.parametrize("scaling", ["standard", "quantile"])
@pytest.mark.parametrize(
    "columns", [["age", "repaid"], ["age", "income", "code", "town", "repaid"]]
)
def test_scaled_numbers_and_batches_are_the_same_bits(tmp_path, monkeypatch, scaling, columns):
    for module in ("tables", "batches.stored"):
        monkeypatch.setattr(f"dl.data.{module}.ROWS", 500)
    frame()[columns].to_parquet(tmp_path / "t.parquet")
    scaled = [tables.numerical_features(s, scaling) for s in same(tmp_path / "t.parquet")]
    for name, part in scaled[0].parts.items():
        for column, values in part.items():
            np.testing.assert_array_equal(scaled[1].parts[name][column], values, strict=True)
    whole, disk = (dl.data.batches.resident.train_batches(s.train, 64, 3) for s in scaled)
    assert isinstance(disk, StreamBatches)
    assert whole.digest() == disk.digest()
    for step, batch in zip(range(40, 45), disk.iterate(40), strict=False):
        for column, values in whole[step].items():
            np.testing.assert_array_equal(batch[column], values)


@pytest.mark.parametrize(("text", "code", "words"), [
    ("x,y\n" + "1,a\n" * 9000 + "1,2,3\n", "table-ragged", ("line 9002", "3 cells, expected 2")),
    ("x,y\n" + "1,a\n" * 9000 + '1,"b\n' + "2,a\n" * 9000, "table-open-quote", ("line 9002",)),
    ("x,y\n" + "1,a\n2,b\n" * 9000 + "w,a\n", "cell-unreadable", ("line 18002: 'w'",)),
    ("", "table-empty", ()),
    ("\n\n", "table-empty", ()),
])  # fmt: skip
def test_a_mistake_far_down_is_told_as_in_memory(tmp_path, text, code, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    said = []
    for stream in (False, True):
        with raises(code, *words) as caught:
            dl.data.open(path, "table", stream=stream)
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("target", ["repaid", "age"])
def test_trees_of_what_is_on_disk_are_fitted_to_a_sample(tmp_path, monkeypatch, capsys, target):
    frame(600).to_parquet(tmp_path / "t.parquet")
    whole, disk = same(tmp_path / "t.parquet", target=target)
    said = []
    for splits in (whole, disk):
        model = boosted_trees(splits.train, splits.validation, len(splits.info.classes))
        said.append(tree_predictions(model, splits.test))
    np.testing.assert_array_equal(*said)
    monkeypatch.setattr("dl.baselines.trees.SAMPLE", 100)
    boosted_trees(disk.train, disk.validation, len(disk.info.classes))
    assert "100 of 480 training rows" in capsys.readouterr().err


def test_bytes_that_are_no_text_and_damaged_files_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"x,y\n" + b"1,a\n2,b\n" * 4500 + b"2,\xe9\n" * 9)
    with raises("encoding", "byte 36006", "--encoding cp1252"):
        dl.data.open(path, "table", dl.data.own.table.OwnTable(stream=True))
    same(path, encoding="cp1252")
    with raises("unknown", "encoding", "utf-99"):
        dl.data.open(path, "table", stream=True, encoding="utf-99")
    frame().to_parquet(whole := tmp_path / "t.parquet")
    whole.write_bytes(whole.read_bytes()[:-50])
    with raises("file-damaged", "t.parquet"):
        dl.data.open(whole, "table", stream=True)
    path.write_bytes(gzip.compress(b"x,y\n" * 9000)[:-20])
    with raises("file-damaged", "t.csv"):
        dl.data.open(path, "table", stream=True)
    with raises("option-misplaced", "stream", "Parquet"):
        dl.data.open(frame(), "table", stream=True)


_PEAK = r"""
import re, sys, threading, time
import numpy, pyarrow.parquet, sklearn.preprocessing
import dl
from dl.data import tables
from dl.data.batches import stored
from dl.data.readers import on_disk

for module in (on_disk, stored, tables):  # else what is in memory at once is not yet full at 100,000 rows
    module.ROWS = 2**13

def memory():  # of the process's own, in MiB; pages of mapped files can go at any time
    return int(re.search(r"RssAnon:\s+(\d+)", open("/proc/self/status").read())[1]) / 1024

most = [0.0]
def watch():
    while True:
        most[0] = max(most[0], memory())
        time.sleep(0.002)

before = memory()
threading.Thread(target=watch, daemon=True).start()
splits = tables.numerical_features(dl.data.open(sys.argv[1], "table", target="y", stream=True))
for _, batch in zip(range(20), splits.train.train_batches(256).iterate()):
    pass
print(most[0] - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path):
    # What is given back goes to the system at once; some allocators keep tens of MiB for later.
    plain = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
    peaks = []
    for rows in (100_000, 400_000):
        path, random = tmp_path / f"{rows}.parquet", np.random.default_rng(0)
        made = {f"x{n}": random.normal(size=rows) for n in range(30)}
        parquet.write_table(pa.table(made | {"y": random.integers(0, 2, rows)}), path)
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, path],
            check=True,
            capture_output=True,
            text=True,
            env=plain,
        )
        peaks.append(float(done.stdout.split()[-1]))
    cells = 300_000 * 30 * 8 / 2**20  # that there are more
    assert peaks[1] - peaks[0] < cells / 2, peaks
