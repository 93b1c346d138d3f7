"""A trained run judged by other data."""

import dataclasses
import json
import math

import numpy as np
import polars as pl
import pytest
from mistakes import raises
from PIL import Image

import dl
from dl.data.own import tested
from dl.data.own.pictures import OwnPictures
from dl.data.own.slices import columns_named, slices_of
from dl.models.mlp import MLP
from dl.tasks.classification import classification
from dl.training.judging import bootstrap, judged


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures, dl.Recipe):
    data: str = "digits"
    steps: int = 40


def build(config: Config) -> dl.Experiment:
    splits = dl.data.open(config.data, "pictures", config)
    return config.experiment(
        classification(MLP((16, len(splits.info.classes)))),
        dl.train_batches(splits.train, 32, config.seed),
        **dl.held_out(splits, 50),
        select="validation/accuracy",
        measure=lambda predictor, columns, name: {"rows": float(len(columns["label"]))},
    )


def write(folder, images, label):
    for row, (image, number) in enumerate(zip(images, label, strict=True)):
        (folder / f"{number}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{number}" / f"{row:04}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("judged")
    digits = dl.load("digits")
    some = digits.train["image"][:300], digits.train["label"][:300]
    files = write(place / "old", *some)
    run = dl.train(build, Config(data=str(files)), runs=place, name="run", progress=False)
    return run, dl.data.open(str(files), "pictures"), place


def test_its_own_test_rows_give_the_scores_of_the_run(trained):
    run, splits, place = trained
    same = write(place / "same", splits.test["image"], splits.test["label"])
    found = run.evaluate(same)
    for name in ("accuracy", "loss"):
        assert found[name].value == pytest.approx(run.metrics[f"test/{name}"], rel=1e-5)
        assert found[name].low <= found[name].value <= found[name].high
    assert found["rows"].value == len(splits.test["label"])
    assert math.isnan(found["rows"].low)  # a measure of the script's is no mean over rows


def test_classes_go_by_name_and_unseen_ones_are_refused(trained):
    run, splits, place = trained
    some = splits.validation["image"][:8]
    few = write(place / "few", some, np.arange(8) % 2 * 5)  # 0 and 5 alone
    assert run.evaluate(few)["rows"].value == 8
    other = write(place / "other", some, ["cat", "dog"] * 4)
    with raises("class-unseen", "cat", "known are"):
        run.evaluate(other)
    with raises("data-unknown", "nowhere"):
        run.evaluate(place / "nowhere")
    with raises("unknown", "'lable'", "'label'"):
        run.evaluate(few, lable="animal")
    one = write(place / "one", some[:3], [5, 5, 5])  # of a class alone, and of one row a class
    said = run.predict(some[:3]).argmax(-1)
    assert run.evaluate(one)["accuracy"].value == pytest.approx((said == 5).mean())
    each = write(place / "each", some[:3], [1, 2, 3])
    assert run.evaluate(each)["accuracy"].value == pytest.approx((said == [1, 2, 3]).mean())
    # Nothing of that is left behind.
    again = dl.data.open(run.experiment.config.data, "pictures")
    np.testing.assert_array_equal(again.test["label"], splits.test["label"])


def test_slices_go_by_any_column_of_a_table_of_pictures(trained):
    run, splits, place = trained
    rows = splits.validation["image"][:24]
    write(place / "sliced", rows, np.zeros(24, int))
    lines = ["path,label,camera,light"]
    for row, number in enumerate(splits.validation["label"][:24]):
        camera = ("old", "new", "")[row % 3]
        lines.append(f"0/{row:04}.png,{'' if row == 5 else number},{camera},{row * 10}")
    table = place / "sliced" / "pictures.csv"
    table.write_text("\r\n".join(lines))
    scores, found = judged(run, table, ["camera", "light"])
    assert {name: one["rows"] for name, one in found["camera"].items()} == {
        "old": 8,
        "new": 8,
        "(missing)": 7,  # one of them has no label
    }
    assert list(found["light"]) == ["0 ... 65", "65 ... 120", "120 ... 175", "175 ... 230"]
    kept = [row for row in range(24) if row != 5]
    said = run.predict(rows[kept]).argmax(-1) == splits.validation["label"][:24][kept]
    old = [place for place, row in enumerate(kept) if row % 3 == 0]
    one = found["camera"]["old"]["accuracy"]
    assert one.value == pytest.approx(said[old].mean())
    assert one.low <= one.value <= one.high
    for values in found.values():
        parts = [(each["rows"], each["loss"].value) for each in values.values()]
        mean = sum(rows * loss for rows, loss in parts) / 23
        assert mean == pytest.approx(scores["loss"].value, rel=1e-5)
    assert run.slices('light, "camera",light', table) == {n: found[n] for n in ("light", "camera")}
    assert columns_named('city, "born, died",,') == columns_named(["city", "born, died"])
    with raises("column-unknown", "','", "COLUMN"):
        columns_named(",")
    with raises("column-unknown", "'hour'", "camera"):
        run.slices("hour", table)
    one_each = place / "sliced" / "each.csv"
    one_each.write_text("path,label\n" + "".join(f"0/{row:04}.png,{row}\n" for row in range(5)))
    with tested.tested_on(one_each, alike=True, ordered=False, fields={}) as wanted:
        dl.data.open(run.experiment.config.data, "pictures")
    assert wanted.rows["label"].tolist() == [*range(5)]
    with raises("option-misplaced", "encoding"):  # it is of no other data
        run.evaluate(encoding="cp1252")
    with raises("unknown", "'columns'"):
        run.evaluate(table, columns=1)
    with raises("slice-no-table"):
        run.slices("camera")  # its own rows lie in a folder a class


def test_slices_of_tables_and_texts_go_by_columns_that_no_model_reads(tmp_path):
    csv = tmp_path / "people.csv"
    ages = [17 + row for row in range(30)]
    csv.write_text(
        "age,sex,town,rich,seen\n"
        + "".join(
            f"{a},{'fm'[a % 2]},T{a % 25},{'yn'[a % 3 == 0]},{1_700_000_000_000 + a}\n"
            for a in ages
        )
    )
    with tested.tested_on(None, alike=True, ordered=True, fields={}) as wanted:
        fields = {"target": "rich", "ignore": ("sex", "town", "seen"), "hold_out": (0.1, 0.4)}
        splits = dl.data.open(csv, "table", **fields)
    found = slices_of(wanted, ["sex", "age"])
    held = splits.test["numerical"][:, 0]
    assert sum(map(len, found["sex"].values())) == len(held) == 12
    for sex, rows in found["sex"].items():
        assert {"fm"[int(age) % 2] for age in held[rows]} == {sex}
    with tested.tested_on(csv, alike=True, ordered=True, fields={}) as wanted:
        dl.data.open(csv, "table", **fields)
    found = slices_of(wanted, ["town", "age", "seen"])
    assert len(found["town"]) == 21
    assert len(found["town"]["(5 others)"]) >= 5
    assert [len(rows) for rows in found["age"].values()] == [8, 7, 7, 8]
    seen = found["seen"]  # told apart by their last digits alone
    assert [rows.tolist() for rows in seen.values()] == [r.tolist() for r in found["age"].values()]
    assert next(iter(seen)) == "1700000000017 ... 1700000000024"
    with tested.tested_on(pl.read_csv(csv), alike=True, ordered=True, fields={}) as wanted:
        dl.data.open(csv, "table", **fields)
    np.testing.assert_array_equal(slices_of(wanted, ["sex"])["sex"]["m"], np.arange(0, 30, 2))

    texts = tmp_path / "texts.jsonl"
    lines = (
        {"text": "" if a == 20 else f"a film of {a} minutes", "label": "ab"[a % 2], "site": a % 4}
        for a in ages
    )
    texts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with tested.tested_on(texts, alike=True, ordered=True, fields={}) as wanted:
        dl.data.open(texts, "texts", text="text", label="label")
    found = slices_of(wanted, ["site", "text"])
    assert [len(found["site"][name]) for name in "0123"] == [6, 8, 8, 7]  # one of 0 has no text
    assert len(found["text"]) == 21


def test_the_interval_is_that_of_a_mean():
    draw = np.random.default_rng(1)
    hits = (draw.random(400) < 0.8).astype(float)
    low, high = bootstrap(hits, np.ones(400))
    error = hits.std() / math.sqrt(400)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (high + low) / 2 == pytest.approx(hits.mean(), abs=0.01)
    # Rows that weigh nothing are no rows.
    padded = np.concatenate([hits, np.zeros(50)])
    assert bootstrap(padded, np.concatenate([np.ones(400), np.zeros(50)])) == (low, high)
    assert all(map(math.isnan, bootstrap(np.zeros(3), np.zeros(3))))
