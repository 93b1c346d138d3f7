"""Predictions of trained scripts for files, as the training's own: every kind, any batches, after a kill."""

import csv
import dataclasses
import gc
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from mistakes import raises
from PIL import Image
from scipy.special import softmax

import dl
from dl.core.experiment import built
from dl.data.own import tested as other_data
from dl.data.own.mask_values import read_numbers
from dl.runs.folder import lock_file
from dl.runs.scripts import load_script
from dl.tasks.regression import regression
from dl.training import predicting

SCRIPTS = Path(__file__).parents[2] / "experiments"
QUICK = {"progress": False, "log_every": 2, "eval_every": 4}
pytestmark = pytest.mark.usefixtures("alone")
DRAW = np.random.default_rng(0)


def trained(place: Path, script: str, name: str = "run", every: int = 4, **fields):
    """A run of a few steps of a script that comes with dl, evaluated (and drawn) at ``every`` so many."""
    kind, build = load_script(SCRIPTS / f"{script}.py")
    config = kind(**fields)
    options = {**QUICK, "eval_every": every}
    return dl.train(
        build, config, script=SCRIPTS / f"{script}.py", runs=place, name=name, **options
    )


def said(run, *files, **more):
    """What is written for files, as dicts of words."""
    out = run.folder.path.parent / f"said{len(list(run.folder.path.parent.iterdir()))}.csv"
    run.predict_files(files, out, **more)
    return list(csv.DictReader(out.open(encoding="utf-8", newline="")))


def of_test_set(run):
    return run.predictor(run.experiment.tests["test"])


def pictures(folder: Path, images, names) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)
    return paths


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    place = tmp_path_factory.mktemp("digits")
    fields = {"epochs": 1, "batch_size": 200, "widths": (8, 8)}
    return trained(place, "image_classification", **fields), dl.load("digits"), place


def test_pictures_are_classified_as_in_training(digits):
    run, splits, place = digits
    few = splits.test["image"][:23]
    files = pictures(place / "new", few, [f"{row:02}.png" for row in range(23)])
    chances = softmax(run.predict(few), -1)
    for found in (said(run, place / "new"), said(run, *files, batch_size=5)):
        assert [row["file"] for row in found] == [str(file) for file in files]
        assert [row["class"] for row in found] == [
            splits.info.classes[c] for c in chances.argmax(-1)
        ]
        table = np.array([[float(row[f"p_{c}"]) for c in splits.info.classes] for row in found])
        np.testing.assert_allclose(table, chances, rtol=1e-4)


def test_files_whose_paths_are_not_utf8_are_found_again(digits, capsys):
    run, splits, place = digits
    folder = place / os.fsdecode(b"caf\xe9")
    try:
        files = pictures(folder, splits.test["image"][:2], ["a.png", "b.png"])
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    run.predict_files([folder], place / "odd.jsonl")
    lines = (place / "odd.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["file"] for line in lines] == [str(file) for file in files]
    assert said(run, folder)[0]["file"].endswith(r"caf\udce9/a.png")
    run.predict_files(folder)  # one may be given by itself
    assert r"caf\udce9/b.png" in capsys.readouterr().out


def test_a_script_that_takes_whole_columns_is_given_them(digits, monkeypatch):
    run, splits, place = digits
    files = pictures(
        place / "columns", splits.test["image"][:5], [f"{row}.png" for row in range(5)]
    )
    plain, usual = run.experiment.build, said(run, *files)

    def build(config):
        made = plain(config)
        test = dl.data.open(config.data, "pictures", config).test
        columns = {name: column[:] for name, column in test.items()} | {"image": test["image"] + 0}
        return dataclasses.replace(made, tests={"test": dl.eval_batches(columns, 4)})

    monkeypatch.setattr(run, "experiment", built(build, run.experiment.config))
    assert [row["class"] for row in said(run, *files)] == [row["class"] for row in usual]


class Killed(Exception):
    pass


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("torn", [b"", b"half a li"])
def test_a_kill_between_batches_loses_nothing(digits, monkeypatch, ending, torn):
    run, splits, place = digits
    few = splits.test["image"][:11]
    pictures(place / "killed", few, [f"{row:02}.png" for row in range(11)])
    whole, part = place / f"whole{torn != b''}.{ending}", place / f"part{torn != b''}.{ending}"
    run.predict_files([place / "killed"], whole, batch_size=3)
    write, batches = predicting.Sink.write, []

    def write_two(self, rows, lines):
        if len(batches) == 2:
            raise Killed
        batches.append(rows)
        write(self, rows, lines)

    monkeypatch.setattr(predicting.Sink, "write", write_two)
    with pytest.raises(Killed):
        run.predict_files([place / "killed"], part, batch_size=3)
    assert not part.exists()
    unfinished = part.with_name(f"{part.name}.part")
    with unfinished.open("ab") as file:
        file.write(torn)
    kept = []
    monkeypatch.setattr(predicting.Sink, "write", lambda *a: kept.append(a[1]) or write(*a))
    run.predict_files([place / "killed"], part, batch_size=4)  # other batches than before
    assert kept[0] == 8
    assert part.read_bytes() == whole.read_bytes()
    assert not unfinished.exists()
    with raises("file-exists", part.name):
        run.predict_files([place / "killed"], part)


def test_what_was_begun_of_other_files_or_read_otherwise_is_not_gone_on_with(tmp_path):
    file = tmp_path / "new.csv"
    names = {"file": np.array([str(file)] * 3), "row": np.arange(3)}
    wanted = SimpleNamespace(names=names, info=None)

    def done(content: str, stamp: int, **of) -> int:
        """Rows kept of an unfinished file; two are there in the end, or all of one."""
        file.write_text(content)
        os.utime(file, ns=(stamp, stamp))
        with predicting.Sink(tmp_path / "said.csv", wanted, of) as sink:
            rows = min(2, len(wanted.names["row"]))
            sink.write(rows, [{"row": row} for row in range(sink.done, rows)])
            sink.__exit__(Killed)
            sink._file = None
        return sink.done

    assert done("a", 1, fields={"encoding": None}) == 0
    assert done("a", 1, fields={"encoding": None}) == 2
    assert done("b", 2, fields={"encoding": None}) == 0
    assert done("b", 2, fields={"encoding": "cp1252"}) == 0
    wanted.names = {name: column[:1] for name, column in names.items()}
    assert done("b", 2, fields={"encoding": "cp1252"}) == 0  # of fewer rows
    part, note = tmp_path / "said.csv.part", tmp_path / "said.csv.part.json"
    assert part.read_text() == "row\n0\n"
    whole = json.loads(note.read_text())
    for odd in ({"rows": "1"}, {"bytes": None}, {"fields": 3}, {"names": [1]}):
        note.write_text(json.dumps(whole | odd))
        with raises("record-damaged", note.name, *odd):
            done("b", 2, fields={"encoding": "cp1252"})
        gc.collect()  # a command would end here, and its hold on the file with it
    file.write_text("keep")
    part.unlink(), part.symlink_to(file)  # in a stranger's folder, where predictions are asked for
    with raises("file-write", "said.csv cannot be written"):
        predicting.Sink(tmp_path / "said.csv", wanted, {})
    assert file.read_text() == "keep"


def test_another_runs_unfinished_file_is_not_gone_on_with(digits, capsys):
    run, splits, place = digits
    files = pictures(place / "two", splits.test["image"][:2], ["a.png", "b.png"])
    out = place / "two.csv"
    note = {"of": {"run": "another"}, "rows": 1, "bytes": 3, "fields": ["x"], "names": ""}
    (place / "two.csv.part").write_text("odd")
    (place / "two.csv.part.json").write_text(json.dumps(note))
    run.predict_files(files, out)
    assert out.read_text().startswith("file,class")
    assert "kept" not in capsys.readouterr().err
    with (place / "busy.csv.part").open("ab") as other:
        lock_file(other)
        with raises("file-in-use", "busy.csv"):
            run.predict_files(files, place / "busy.csv")


def test_mistakes_are_one_line(digits, tmp_path):
    run, splits, _ = digits
    Image.fromarray(np.zeros((9, 9, 3), np.uint8) + np.uint8([9, 1, 5])).save(tmp_path / "red.png")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG no more")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    for code, file in (
        ("file-missing", "nowhere.png"),
        ("picture-channels", "red.png"),
        ("picture-damaged", "torn.png"),
        ("set-of-another-kind", "notes.txt"),
        ("part-empty", "empty"),
    ):
        with raises(code, file):
            run.predict_files([tmp_path / file])
    with raises("part-empty"):
        run.predict_files([])
    with raises("file-ending", ".csv"):
        run.predict_files([tmp_path / "torn.png"], tmp_path / "said.txt")
    for size in (-1, 2.5):
        with raises("range", "--batch-size"):
            run.predict_files([tmp_path / "torn.png"], batch_size=size)
    with raises("data-unknown", "path", "3"):
        run.predict_files(3)
    with raises("unknown", "'alike'"):
        run.predict_files([tmp_path / "torn.png"], alike=1)
    with raises("not-a-batch", "x[None]"):
        run.predict(splits.test["image"][0])


def test_rows_of_tables_by_name_of_their_columns(tmp_path):
    loans = SCRIPTS.parent / "tests" / "experiments" / "loans.csv"
    fields = {"data": str(loans), "epochs": 2, "batch_size": 10, "trees": False}
    heading, *lines = loans.read_text().splitlines()
    names = heading.split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[:7]]
    # Columns in another order, without the target, one more.
    mixed = [name for name in reversed(names) if name not in ("repaid", "age")]
    for target in ("repaid", "age"):
        new = tmp_path / f"{target}.csv"
        with new.open("w", newline="") as file:
            table = csv.writer(file)
            kept = [*mixed, "age" if target == "repaid" else "repaid"]
            table.writerow(["more", *kept])
            table.writerows(["x", *(row[name] for name in kept)] for row in rows)
        ignore = () if target == "repaid" else ("repaid",)
        balanced = target == "repaid"
        run = trained(
            tmp_path, "tabular", target, target=target, ignore=ignore, balanced=balanced, **fields
        )
        found = said(run, new, new)
        assert [row["row"] for row in found] == [*map(str, range(7))] * 2
        assert found[:7] == [{**row} for row in found[7:]]
        own = said(run, loans)  # the training file itself, in one go
        turned = tmp_path / f"{target}-turned.csv"  # written otherwise
        turned.write_text(loans.read_text().replace(",", ";"))
        assert said(run, turned, separator=";") == [{**row, "file": str(turned)} for row in own]
        for one, other in zip(own, found[:7], strict=False):
            numbers = [name for name in one if name == "value" or name.startswith("p_")]
            assert one.get("class") == other.get("class")
            assert [float(one[n]) for n in numbers] == pytest.approx(
                [float(other[n]) for n in numbers]
            )
        (tmp_path / "none").mkdir(exist_ok=True)
        with raises("part-empty", "none"):
            run.predict_files(tmp_path / "none")
        if target == "age":
            outputs = of_test_set(run)
            tested = dl.data.open(str(loans), "table", run.experiment.config)
            assert {len(outputs)} == {len(tested.test["label"])}
            values = np.array([float(row["value"]) for row in own])
            assert np.abs(outputs[:, None] - values).min(1).max() < 1e-3
    with other_data.tested_on(
        [new], alike=False, ordered=True, fields={}
    ):  # a teacher keeps its own data
        teacher = dl.open_run(run.folder.path)
    assert teacher.experiment.tests["test"].digest() == run.experiment.tests["test"].digest()


def test_texts_of_tables_and_lines(tmp_path, capfd):
    words = ["good", "fine", "bad", "poor"]
    lines = [f"{words[row % 4]} film number {row}" for row in range(80)]
    table = "".join(f"{text},{'no' if row % 4 > 1 else 'yes'}\n" for row, text in enumerate(lines))
    (tmp_path / "old.csv").write_text(f"Plot,label\n{table}")
    (tmp_path / "new.csv").write_text("title,Plot\nbad,good film\npoor,a bad film\n")
    (tmp_path / "other.csv").write_text("title,note\nbad,good film\npoor,a bad film\n")
    (tmp_path / "new.txt").write_text("good film\r\na bad film\r\n", newline="")
    run = trained(
        tmp_path,
        "sentiment",
        data=str(tmp_path / "old.csv"),
        embedding=8,
        features=4,
        batch_size=8,
        steps=60,
    )
    by_table, by_line = said(run, tmp_path / "new.csv"), said(run, tmp_path / "new.txt")
    assert [row["class"] for row in by_table] == ["yes", "no"]
    assert "column Plot" not in capfd.readouterr().err.partition("new.csv")[2]
    assert [row["class"] for row in said(run, tmp_path / "other.csv")] == ["no", "no"]
    assert (
        "column title" in capfd.readouterr().err
    )  # it has none called Plot, as training's file did
    for one, other in zip(by_table, by_line, strict=True):
        assert {**one, "file": ""} == {**other, "file": ""}
    assert [row["class"] for row in said(run, tmp_path / "other.csv", text="note")] == ["yes", "no"]
    with raises("column-unknown", "'remark'"):  # which was asked for
        run.predict_files(tmp_path / "other.csv", text="remark")
    (tmp_path / "none.txt").write_text("")
    with raises("part-empty", "none.txt"):
        run.predict_files(tmp_path / "none.txt")


def sound(path: Path, seconds: float, pitch: float, rate: int = 8000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    soundfile.write(path, wave, rate)
    return path


def test_recordings_have_a_class(tmp_path):
    for row in range(24):
        sound(
            tmp_path / "old" / ("low", "high")[row % 2] / f"{row}.wav",
            0.3,
            300 + 900 * (row % 2) + row,
        )
    run = trained(
        tmp_path,
        "spoken_digits",
        every=30,
        data=str(tmp_path / "old"),
        width=2,
        epochs=30,
        batch_size=8,
    )
    splits = dl.data.open(str(tmp_path / "old"), "recordings")
    again = said(run, tmp_path / "old")
    by_file = {row["file"]: row for row in again}
    names = splits.info.details["row_names"]["test"]
    logits = of_test_set(run)
    for name, wanted in zip(names, logits.argmax(-1), strict=True):
        assert by_file[str(tmp_path / "old" / name)]["class"] == splits.info.classes[wanted]
    sound(tmp_path / "new.flac", 0.7, 350, rate=16000)  # longer and of another rate
    assert len(said(run, tmp_path / "new.flac")) == 1


@pytest.mark.slow
def test_speech_becomes_text(tmp_path):
    pytest.importorskip("jiwer")
    table = ["path,text"]
    for row in range(24):
        sound(tmp_path / f"{row}.wav", 0.5, 300 + 900 * (row % 2))
        table.append(f"{row}.wav,{'ab' if row % 2 else 'ba'}")
    (tmp_path / "old.csv").write_text("\n".join(table))
    run = trained(
        tmp_path,
        "speech_ctc",
        data=str(tmp_path / "old.csv"),
        encoder="cnn",
        width=2,
        epochs=1,
        batch_size=8,
        beam=1,
    )
    sound(tmp_path / "new" / "long.wav", 1.5, 300)
    heard = said(run, tmp_path / "0.wav", tmp_path / "new")
    views = run.experiment.views
    test = run.experiment.tests["test"]
    strings = views.strings(run.predictor, dl.training.prediction.columns_of(test))[1]
    by_file = said(run, *(tmp_path / f"{row}.wav" for row in range(24)))
    names = dl.data.open(str(tmp_path / "old.csv"), "transcripts").info.details["row_names"]["test"]
    of = {Path(row["file"]).name: row["text"] for row in by_file}
    assert [of[name] for name in names] == strings
    assert list(heard[0]) == ["file", "text"]


def test_masks_come_back_in_the_size_of_the_picture(tmp_path):
    for row in range(20):
        image = DRAW.integers(0, 90, (30, 44, 3)).astype(np.uint8)
        image[5:20, 10 + row % 9 : 30] += 120
        mask = np.where(image.mean(-1) > 100, 255, 0).astype(np.uint8)
        pictures(tmp_path / "old" / "images", [image], [f"{row}.png"])
        pictures(tmp_path / "old" / "masks", [mask[..., None]], [f"{row}.png"])
    run = trained(
        tmp_path,
        "segmentation",
        every=60,
        data=str(tmp_path / "old"),
        widths=(4, 8),
        tile=32,
        steps=120,
        batch_size=4,
    )
    wide = DRAW.integers(0, 90, (61, 120, 3)).astype(np.uint8)
    pictures(tmp_path / "new", [wide], ["wide.png"])
    run.predict_files([tmp_path / "old" / "images", tmp_path / "new"], tmp_path / "masks")
    lines = list(csv.DictReader((tmp_path / "masks" / "predictions.csv").open()))
    assert len(lines) == 21
    names = dl.data.open(str(tmp_path / "old"), "masks").info.details["row_names"]["test"]
    segments = of_test_set(run).argmax(-1)
    for name, wanted in zip(names, segments, strict=True):
        found = np.asarray(Image.open(tmp_path / "masks" / "old" / "images" / name))
        assert found.shape == (30, 44)
        np.testing.assert_array_equal(found, wanted[1:31, 2:46] * 255)
    assert np.asarray(Image.open(tmp_path / "masks" / lines[-1]["mask"])).shape == (61, 120)
    assert float(lines[0]["share_0"]) + float(lines[0]["share_255"]) == pytest.approx(1)


@pytest.mark.slow
def test_boxes_lie_in_the_pixels_of_the_picture(tmp_path):
    pytest.importorskip("pycocotools")
    notes, objects = [], []
    for row in range(20):
        image = np.full((40, 60, 3), 30, np.uint8)
        image[10:30, 5 + row : 25 + row] = 220
        pictures(tmp_path / "old", [image], [f"{row}.png"])
        notes.append({"id": row, "file_name": f"{row}.png", "height": 40, "width": 60})
        box = [5 + row, 10, 20, 20]
        objects.append(
            {
                "id": row + 1,
                "image_id": row,
                "category_id": 1,
                "bbox": box,
                "area": 400,
                "iscrowd": 0,
            }
        )
    coco = {"images": notes, "annotations": objects, "categories": [{"id": 1, "name": "box"}]}
    (tmp_path / "old" / "boxes.json").write_text(json.dumps(coco))
    run = trained(
        tmp_path, "object_detection", data=str(tmp_path / "old"), height=64, width=96, backbone_width=2,
        head_width=8, head_depth=1, epochs=2, batch_size=8,
    )  # fmt: skip
    names = dl.data.open(str(tmp_path / "old"), "boxes", run.experiment.config).info.details[
        "row_names"
    ]["test"]
    found = said(run, *(tmp_path / "old" / name for name in names))
    own = of_test_set(run)
    assert len(found) == int((own.label >= 0).sum()) > 0
    left = np.concatenate([b[n >= 0, 0] for b, n in zip(own.boxes, own.label, strict=True)])
    np.testing.assert_allclose(
        [float(row["left"]) for row in found], left.clip(0, 96) * 60 / 96, atol=1e-3
    )
    assert {row["class"] for row in found} == {"box"}


@pytest.mark.slow
def test_translations_keep_the_order_of_the_lines(tmp_path):
    pytest.importorskip("sacrebleu")
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    lines = [" ".join(numbers[(row + k) % 10] for k in range(1 + row % 6)) for row in range(120)]
    table = "".join(f"{line}\t{line.upper()}\n" for line in lines)
    (tmp_path / "old.tsv").write_text(f"en\tde\n{table}")
    run = trained(
        tmp_path, "translation", data=str(tmp_path / "old.tsv"), vocabulary=80, width=8, layers=1,
        heads=2, hidden=8, beams=1, batch_size=16, steps=6, sizes=(), source="en", target="de",
    )  # fmt: skip
    (tmp_path / "new.txt").write_text("\n".join(lines[:6][::-1]))
    found = said(run, tmp_path / "new.txt", batch_size=4)
    alone = [said(run, tmp_path / "new.txt")[row]["text"] for row in range(6)]
    assert [row["text"] for row in found] == alone
    assert list(found[0]) == ["file", "row", "text"]


@pytest.mark.slow
def test_series_go_on_in_their_own_units(tmp_path):
    def table(length, names="ab"):
        rows = [
            f"2024-01-{1 + k // 24:02} {k % 24:02}:00,{name},{level + 5 * np.sin(k / 24 * 2 * np.pi):.4f}"
            for name, level in zip(names, (1000, 20), strict=False)
            for k in range(length)
        ]
        return "\n".join(["time,series,load", *rows])

    old, new = tmp_path / "old.csv", tmp_path / "new.csv"
    old.write_text(table(480))
    new.write_text(table(120))
    fields = {"look_back": 48, "horizon": 12, "steps": 300, "batch_size": 16}
    run = trained(tmp_path, "forecasting", every=100, data=str(old), **fields)
    found = said(run, new)
    assert [(row["series"], row["step"]) for row in found] == [
        (name, str(step)) for name in "ab" for step in range(1, 13)
    ]
    for name, level in (("a", 1000), ("b", 20)):
        values = [float(row["load"]) for row in found if row["series"] == name]
        wanted = level + 5 * np.sin(np.arange(120, 132) / 24 * 2 * np.pi)
        assert np.abs(values - wanted).max() < 1
    new.write_text(table(30))
    with raises("series-too-short", "new.csv", "48"):
        run.predict_files([new])
    new.write_text(table(120, "ac"))
    with raises("group-unseen", "such as c"):
        run.predict_files([new])


@pytest.mark.slow
def test_stays_and_customers_have_what_the_run_says_of_them(tmp_path):
    hours = np.random.default_rng(1).uniform(0, 48, (30, 6))
    (tmp_path / "stays").mkdir()
    for name, head, lines in (
        ("events", "stay,hour,variable,value", [
            f"{s},{h:.2f},{v},{h + s % 2:.2f}" for s in range(30) for v, h in zip("abcabc", hours[s], strict=True)
        ]),
        ("stays", "stay,label,age", [f"{s},{s % 2},{s}" for s in range(30)]),
    ):  # fmt: skip
        (tmp_path / "stays" / f"{name}.csv").write_text("\n".join([head, *lines]))
    fields = {"width": 4, "epochs": 2, "batch_size": 8, "trees": False}
    run = trained(tmp_path, "health_records", "s", data=str(tmp_path / "stays"), **fields)
    found = said(run, tmp_path / "stays")
    assert [row["stay"] for row in found] == [str(n) for n in range(30)]
    own = softmax(of_test_set(run), -1)[:, 1]
    chances = np.array([float(row["p_1"]) for row in found])
    assert max(np.abs(chances - each).min() for each in own) < 1e-5

    bought = SCRIPTS.parent / "tests" / "experiments" / "purchases.csv"
    fields = {"widths": (4,), "code": 2, "most": 3, "epochs": 1, "batch_size": 8}
    run = trained(tmp_path, "customer_segments", "c", data=str(bought), **fields)
    days = np.array(
        [line.split(",")[1] for line in bought.read_text().split()[1:]], "datetime64[D]"
    )
    middle = days.min() + ((days.max() - days.min()).astype(int) + 1) // 2
    found = said(run, bought, cut=str(middle))
    rates = np.array([float(row["purchases"]) for row in found])
    assert max(np.abs(rates - each).min() for each in of_test_set(run)["rate"]) < 1e-5
    assert {row["segment"] for row in found} <= {"0", "1", "2"}
    all_known = said(run, bought)  # by all that they bought
    assert all(0 <= float(row["p_again"]) <= 1 for row in all_known)
    assert len(all_known) >= len(found)
    assert [row["purchases"] for row in all_known] != [row["purchases"] for row in found]


# -- arrays ------------------------------------------------------------------------------------------


def test_a_named_layer_gives_its_activations(digits):
    run, splits, _ = digits
    few = splits.test["image"][:5]
    inner = run.embed(few, "Dropout_0")
    head = run.state.eval_variables["params"]["Dense_0"]
    np.testing.assert_allclose(inner @ head["kernel"] + head["bias"], run.predict(few), atol=1e-4)
    np.testing.assert_allclose(run.embed(few, "."), run.predict(few), atol=1e-6)
    with raises("unknown", "Dense0", "did you mean 'Dense_0'", "BatchNorm_0"):
        run.embed(few, "Dense0")
    members = dl.Predictor(
        dl.ensemble(run.experiment.task, 2),
        jax.tree.map(lambda x: jnp.stack([x, x]), run.state.eval_variables),
    )
    with raises("layer-in-loop", "Dense_0", "members"):
        members.at("Dense_0")(few)


def test_a_layer_called_with_the_steps_of_all_rows_gives_those_of_each_row():
    class Both(nn.Module):
        def __call__(self, x):
            return 2 * x, x.swapaxes(0, 1)

    class Flat(nn.Module):
        @nn.compact
        def __call__(self, x, *, train: bool = False):
            x = Both(name="both")(x)[0] / 2
            every = nn.Dense(2, name="every")(x.reshape(-1, x.shape[-1]))
            first = nn.Dense(2, name="first")(x.swapaxes(0, 1)).swapaxes(0, 1)
            return every.reshape(first.shape).sum(1) + first.sum(1)

    task, x = regression(Flat(), inputs="x"), np.float32(DRAW.normal(size=(5, 3, 2)))
    variables = task.init(jax.random.key(0), {"x": x})
    predictor = dl.Predictor(task, variables, batch_size=4)
    every, first = (variables["params"][name] for name in ("every", "first"))
    np.testing.assert_allclose(predictor.at("every")(x), x @ every["kernel"], atol=1e-6)
    np.testing.assert_allclose(predictor.at("first")(x)[:, :, 0], x @ first["kernel"], atol=1e-6)
    both, turned = predictor.at("both")(x)
    np.testing.assert_array_equal(both, 2 * x)
    np.testing.assert_array_equal(turned[:, :, 0], x)


def test_what_is_drawn_is_drawn_by_a_key_and_row():
    plain = regression(nn.Dense(1), inputs="x")

    def predict(variables, columns):
        keys = jax.vmap(jax.random.wrap_key_data)(columns["keys"])
        return columns["x"][:, 0] + jax.vmap(jax.random.normal)(keys)

    task = dataclasses.replace(plain, predict=predict, columns=("x", "keys"))
    x = np.zeros((9, 1), np.float32)
    key = jax.random.key(3)
    whole = dl.Predictor(task, {"params": {}}, batch_size=4)(x, key)
    assert len(set(whole.tolist())) == 9
    np.testing.assert_array_equal(
        dl.Predictor(task, {"params": {}}, batch_size=2)({"x": x}, key), whole
    )
    held = dl.data.batches.eval_batches({"x": x}, 4)
    np.testing.assert_array_equal(dl.Predictor(task, {"params": {}})(held, key), whole)
    assert (dl.Predictor(task, {"params": {}})(x, jax.random.key(4)) != whole).all()
    with raises("column-missing", "keys", "key="):
        dl.Predictor(task, {"params": {}})({"x": x})
    with raises("option-misplaced", "key"):
        dl.Predictor(plain, {"params": {}})(x, key)


RATED = "user,item,rating,time\n" + "".join(
    f"u{u},film {(3 * u + n) % 9},{1 + (u + n) % 5},{10 * n}\n" for n in range(6) for u in range(8)
)


@pytest.mark.parametrize("model", ["transformer", "neumf", "factors"])
def test_items_are_recommended_that_a_user_does_not_know(tmp_path, model):
    (tmp_path / "all.csv").write_text(RATED)
    fields = {"model": model, "width": 8, "layers": 1, "context": 6, "epochs": 2, "batch_size": 4}
    run = trained(tmp_path, "recommendation", data=str(tmp_path / "all.csv"), **fields)
    asked = tmp_path / "asked.csv"
    asked.write_text("user\nu3\nu0\nu3\n")
    found = said(run, asked)
    assert [(row["user"], row["rank"]) for row in found] == [
        (user, str(rank)) for user in ("u3", "u0") for rank in (1, 2, 3)
    ]  # of nine items six are known
    for user in (3, 0):
        items = {row["item"] for row in found if row["user"] == f"u{user}"}
        assert items == {f"film {(3 * user + n) % 9}" for n in (6, 7, 8)}
    scores = [float(row["score"]) for row in found[:3]]
    assert scores == sorted(scores, reverse=True)
    # What a file adds is known, too.
    asked.write_text("user,item\nu3,film 6\n")
    assert {row["item"] for row in said(run, asked)} == {"film 7", "film 8"}


def test_a_new_history_is_gone_on_with_and_a_model_of_numbers_refuses_it(tmp_path):
    (tmp_path / "all.csv").write_text(RATED)
    small = {"data": str(tmp_path / "all.csv"), "width": 8, "epochs": 2, "batch_size": 4}
    run = trained(tmp_path, "recommendation", layers=1, context=6, **small)
    new, items = tmp_path / "new.csv", tmp_path / "items.csv"
    new.write_text("item;user;time\nfilm 2;me;2\nfilm 1;me;1\nno film;me;3\n")
    with pytest.warns(UserWarning, match="the ratings, 1 of items"):
        found = said(run, new)
    items.write_text("item\nfilm 1\nfilm 2\n")  # of one user, in order
    again = said(run, items)
    assert {row["user"] for row in found} == {"me"}
    assert {row["user"] for row in again} == {str(items)}
    kept = [[row[name] for name in ("rank", "item", "score")] for row in found]
    assert kept == [[row[name] for name in ("rank", "item", "score")] for row in again]
    assert len(kept) == 7
    # As the model itself has it, of the codes of these items.
    inputs = np.array([[0, 2, 3, 0, 0, 0]], np.int32)
    scores = run.predictor({"inputs": inputs})[0]
    assert float(found[0]["score"]) == pytest.approx(np.delete(scores, [1, 2]).max(), rel=1e-5)
    new.write_text("user\nhe\n")
    with pytest.warns(UserWarning, match="user he was not there"):
        assert len(said(run, new)) == 9
    new.write_text("user,item\nme,film 1\n")
    known = trained(tmp_path, "recommendation", "numbers", model="neumf", **small)
    with raises("user-unseen", "of 1 users 1 ", "--model transformer"):
        said(known, new)
    new.write_text("a,b\n1,2\n")
    with raises("column-unnamed", "users or items", "--user"):
        said(run, new)


def test_no_mask_is_written_beside_the_folder_asked_for(tmp_path):
    """A table of paths may be a stranger's."""
    files = [str(tmp_path / "data" / "a" / name) for name in ("0.png", "../../../x/1.png")]
    wanted: Any = SimpleNamespace(
        names={"file": np.array(files, object)}, info=SimpleNamespace(details={"kind": "masks"})
    )
    with predicting.Sink(tmp_path / "in" / "out", wanted, {"run": "run"}) as sink:
        lines = [sink.picture(row, np.zeros((2, 2), int), None) for row in range(2)]
    names = [str(line["mask"]) for line in lines]
    assert all((tmp_path / "in" / "out" / name).is_file() for name in names)
    assert not any(".." in name for name in names)


@pytest.mark.parametrize("values", [(0, 255), (0, 0xFF0000, 0x00FF00), (7, 300)])
def test_a_mask_is_read_again_by_the_values_of_training(tmp_path, values):
    wanted: Any = SimpleNamespace(
        names={"file": np.array([str(tmp_path / "0.png")], object)},
        info=SimpleNamespace(details={"kind": "masks"}),
    )
    classes = DRAW.integers(0, len(values), (5, 4))
    with predicting.Sink(tmp_path / "out", wanted, {"run": "run"}) as sink:
        sink.picture(0, classes, values)
    found = read_numbers(str(tmp_path / "out" / "0.png"))
    np.testing.assert_array_equal(found, np.array(values)[classes])
