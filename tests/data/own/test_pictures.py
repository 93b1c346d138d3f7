"""Pictures of one's own: folders of classes and tables of paths, as people have them, in memory and streamed."""

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest
from mistakes import raises
from PIL import Image
from told import told

import dl
from dl.core.experiment import built
from dl.core.lanes import traceable_fields
from dl.data import take
from dl.data.batches.streams import FileRows, StreamBatches, StreamEvalBatches
from dl.data.own.pictures import random_parts
from dl.runs.compare import first_difference
from dl.runs.scripts import load_script
from dl.testing import check_batches

SCRIPT = Path(__file__).parents[3] / "experiments" / "image_classification.py"


def picture(path, value=0, size=(8, 8), mode="RGB", seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 40, (*size[::-1], 3), np.uint8)
    Image.fromarray(noise + np.uint8(value % 200)).convert(mode).save(path, **options)
    return path


def folder(root, classes=("cat", "dog"), count=10, **options):
    for label, name in enumerate(classes):
        for row in range(count):
            picture(root / name / f"{row}.png", 100 * label, seed=row, **options)
    return root


def open_pictures(source, **fields):
    return dl.data.open(source, "pictures", **fields)


def test_a_folder_a_class(tmp_path):
    splits = open_pictures(folder(tmp_path))
    assert splits.info.classes == ("cat", "dog")
    assert splits.info.sizes == {"train": 16, "validation": 2, "test": 2}
    assert splits.train["image"].shape == (16, 8, 8, 3)
    assert splits.train["image"].dtype == np.uint8
    assert splits.train["label"].dtype == np.int32
    for part in splits.parts.values():  # labels in proportion, and each with its pictures
        assert part["label"].mean() == 0.5
        np.testing.assert_array_equal(part["image"].mean((1, 2, 3)) > 80, part["label"] == 1)
    assert told(splits)["size"].startswith("8 high, 8 wide | as they are")
    assert "cat: 10, dog: 10" in told(splits)["label"]
    assert told(splits)["majority"].startswith("50.0%")
    assert told(splits)["majority"].endswith("over all parts")


def test_parts_of_folders_are_honoured_and_classes_go_by_name(tmp_path):
    folder(tmp_path / "Training", ("dog", "cat", "ant"), 4)
    folder(tmp_path / "val", ("dog", "cat"), 3)
    picture(tmp_path / "test" / "1.png")
    splits = open_pictures(tmp_path)
    assert splits.info.classes == ("ant", "cat", "dog")
    assert splits.info.sizes == {"train": 12, "validation": 6}
    np.testing.assert_array_equal(np.unique(splits.validation["label"]), [1, 2])
    assert "no pictures" in told(splits)["left out"]
    assert "no test part" in told(splits)["parts"]


def test_a_train_among_classes_is_a_class_and_an_outer_folder_is_none(tmp_path):
    folder(tmp_path / "unpacked" / "vehicles", ("bus", "train"))
    assert open_pictures(tmp_path).info.classes == ("bus", "train")


def table(path, rows, heading="path,label", ending="\n", encoding="utf-8"):
    path.write_bytes((ending.join([heading, *rows]) + ending).encode(encoding))
    return path


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_table_of_path_and_class(tmp_path, place):
    folder(tmp_path / "all")
    rows = [f"all\\cat\\{i}.png;10;{i % 3}" for i in range(10)]
    rows += [f"dog/{i}.png;9;{i % 3}" for i in range(10)]
    written = table(tmp_path / "Labels.CSV", rows, "File;Grade;who", "\r\n", "utf-8-sig")
    with raises("target-unnamed", "--label", "Grade, who"):
        open_pictures(written)
    splits = open_pictures(written if place == "file" else tmp_path, label="Grade", group="who")
    assert splits.info.classes == ("9", "10")  # numbers in their order
    said = told(splits)
    assert "the pictures' paths" in said["column File"]
    assert "the classes" in said["column Grade"]
    assert "groups" in said["column who"]


def test_the_parts_of_a_table_are_its_split_column_or_its_files(tmp_path):
    folder(tmp_path)
    rows = [
        f"{name}/{row}.png,{name},{part},x"
        for name in ("cat", "dog")
        for row, part in enumerate(["train"] * 6 + ["dev"] * 2 + ["Test"] * 2)
    ]
    sheet = table(tmp_path / "t.csv", rows, "image,label,split,note")
    splits = open_pictures(sheet)
    assert splits.info.sizes == {"train": 12, "validation": 4, "test": 4}
    assert told(splits)["left out"] == "1 column | note"
    sheet.unlink()
    table(tmp_path / "train.csv", rows[:8] + rows[10:18], "image,label,of,note")
    table(tmp_path / "valid.csv", rows[8:10] + rows[18:], "image,label,of,note")
    table(tmp_path / "test.csv", ["cat/1.png"], "image")  # as competitions have it
    splits = open_pictures(tmp_path)
    assert splits.info.sizes == {"train": 16, "validation": 4}
    assert told(splits)["test.csv"] == "left out | it has no column 'label'"


def test_the_only_column_of_few_values_holds_the_classes(tmp_path):
    folder(tmp_path)
    rows = [f"{n}/{row}.png,{row}{n},{n}" for n in ("cat", "dog") for row in range(10)]
    splits = open_pictures(table(tmp_path / "t.csv", rows, "image,taken_at,what"))
    assert splits.info.classes == ("cat", "dog")
    assert "proposed: --label" in told(splits)["column what"]


def test_names_without_ending_or_folder_are_found_and_missing_ones_named(tmp_path):
    folder(tmp_path / "images", ("a",), 6)
    (tmp_path / "images" / "a" / "5.png").rename(tmp_path / "images" / "a" / "5.JPG")
    sheet = table(tmp_path / "t.csv", [f"{i},{'xy'[i % 2]}" for i in range(6)], "id_code,class")
    assert open_pictures(sheet, image="id_code").info.classes == ("x", "y")
    sheet = table(tmp_path / "t.csv", ["1.png,x", "7.png,y", "8.png,y"])
    with raises("file-missing", "2 of 3", "path", "line 3: '7.png'"):
        open_pictures(sheet)


def test_paths_of_another_machine_are_found_by_their_ends(tmp_path):
    folder(tmp_path)
    rows = [
        f"C:\\Users\\me\\set\\{name}\\{i}.png,{name}" for name in ("cat", "dog") for i in range(3)
    ]
    splits = open_pictures(table(tmp_path / "t.csv", rows), hold_out=(0.0, 0.0))
    np.testing.assert_array_equal(splits.train["label"], splits.train["image"].mean((1, 2, 3)) > 80)
    with raises("table-no-heading", "t.csv", "0.png", "path,label"):
        open_pictures(table(tmp_path / "t.csv", rows[1:], rows[0]))


def test_rows_without_class_are_skipped_and_repeated_ones_told(tmp_path):
    folder(tmp_path)
    rows = [
        "cat/1.png,x",
        "cat/2.png,",
        "cat/3.png,y",
        "cat/1.png,y",
        "dog/1.png,NaN",
        "dog/2.png,x",
    ]
    splits = open_pictures(table(tmp_path / "t.csv", rows), hold_out=(0.0, 0.0))
    assert splits.info.sizes == {"train": 4}
    assert told(splits)["skipped"] == "2 rows | no path, class or part (line 3, line 6)"
    assert told(splits)["duplicates"].endswith("1 picture have several classes")


@pytest.mark.parametrize(
    ("fields", "size", "said"),
    [
        ({}, (64, 64), "cut to their middle"),
        ({"size": (20,)}, (20, 20), "cut to their middle"),
        ({"size": (20, 30), "fit": "pad"}, (20, 30), "amid black"),
        ({"size": [20, 30], "fit": "stretch"}, (20, 30), "stretched"),
    ],
)
def test_sizes_are_proposed_and_shown(tmp_path, fields, size, said):
    folder(tmp_path, size=(100, 80))
    folder(tmp_path, ("eel",), size=(150, 200))
    splits = open_pictures(tmp_path, **fields)
    assert splits.train["image"].shape[1:3] == size
    assert said in told(splits)["size"]
    assert "height 80 to 200, median 80; width 100 to 150, median 100" in told(splits)["image"]


def test_large_pictures_of_one_size_keep_their_proportions(tmp_path):
    splits = open_pictures(folder(tmp_path, count=3, size=(300, 200)), hold_out=(0.0, 0.0))
    assert splits.train["image"].shape == (6, 64, 96, 3)
    assert "scaled down" in told(splits)["size"]


def test_grey_stays_grey_and_odd_modes_become_colour(tmp_path):
    folder(tmp_path, mode="L")
    sixteen = np.full((8, 8), 65535, np.uint16)
    Image.fromarray(sixteen).save(tmp_path / "cat" / "0.png")
    splits = open_pictures(tmp_path, hold_out=(0.0, 0.0))
    assert splits.train["image"].shape == (20, 8, 8, 1)
    assert (splits.train["image"][0] == 255).all()
    picture(tmp_path / "cat" / "1.png", mode="P")
    picture(tmp_path / "cat" / "2.jpg", mode="CMYK")
    picture(tmp_path / "cat" / "3.png", mode="RGBA")
    splits = open_pictures(tmp_path)
    assert splits.train["image"].shape[-1] == 3
    assert "colour, 18 of them grey" in told(splits)["image"]


@pytest.mark.parametrize("stream", [False, True])
def test_damaged_files_are_named(tmp_path, stream):
    folder(tmp_path)
    (tmp_path / "cat" / "3.png").write_bytes(b"")
    (tmp_path / "dog" / "4.png").write_bytes(b"no picture")
    with raises("picture-damaged", "3.png", "is empty", "1 more", "4.png"):
        open_pictures(tmp_path, stream=stream)


def test_a_picture_cut_off_is_named(tmp_path):
    file = picture(folder(tmp_path) / "cat" / "3.png", size=(64, 64))
    file.write_bytes(file.read_bytes()[:-3000])
    with raises("picture-damaged", "cat/3.png", "cut off"):
        open_pictures(tmp_path)


def test_what_cannot_be_learned_or_heeded_is_refused(tmp_path):
    folder(tmp_path / "one", ("cat",))
    with raises("target-one-class", "'cat'"):
        open_pictures(tmp_path / "one")
    folder(tmp_path / "many", [f"c{i:02}" for i in range(30)], 1)
    with raises("target-too-many-classes"):
        open_pictures(tmp_path / "many")
    with raises("option-misplaced", "--label"):
        open_pictures(folder(tmp_path / "two"), label="kind")
    with raises("size-given", "not 3"):
        open_pictures(tmp_path / "two", size=(8, 8, 3))
    with raises("no-pictures"):
        (tmp_path / "none" / "cat").mkdir(parents=True)
        open_pictures(tmp_path / "none")
    with raises("no-pictures", "1.png", "give the folder"):
        open_pictures(picture(tmp_path / "1.png"))
    (tmp_path / "a.zip").write_bytes(b"PK")
    with raises("no-pictures", "a.zip", "unpack"):
        open_pictures(tmp_path / "a.zip")
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with raises("column-unnamed", "--image", "x, y"):
        open_pictures(tmp_path / "a.csv")


def test_a_class_of_one_picture_stays_in_training(tmp_path):
    folder(tmp_path, count=20)
    for name in ("eel", "fox", "gnu"):
        picture(tmp_path / name / "1.png")
    splits = open_pictures(tmp_path, hold_out=(0.3, 0.3))
    assert np.isin([2, 3, 4], splits.train["label"]).all()
    assert told(splits)["few"] == "3 classes of fewer than 5 pictures | eel, fox, gnu"


def test_masks_beside_the_pictures_are_left_out(tmp_path):
    for name in ("good", "bad"):
        for row in range(4):
            picture(tmp_path / name / f"{row}.jpg")
            picture(tmp_path / name / f"{row}.png", mode="1")
    splits = open_pictures(tmp_path)
    assert sum(splits.info.sizes.values()) == 8
    assert told(splits)["left out"].startswith("8 .png files | masks")


def test_odd_files_are_told_and_nothing_warns(tmp_path):
    folder(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "1 file ending in .txt (cat/notes.txt)" in told(open_pictures(tmp_path))["odd"]


# -- streams -----------------------------------------------------------------------------------------


def test_a_stream_holds_the_rows_in_memory(tmp_path):
    folder(tmp_path, size=(12, 9))
    whole = open_pictures(tmp_path, size=(8,)).map(lambda c: {**c, "twice": c["label"] * 2})
    stream = open_pictures(tmp_path, size=(8,), stream=True)
    assert "read from disk as needed" in told(stream)["memory"]
    stream = stream.map(lambda c: {**c, "twice": c["label"] * 2})
    assert whole.info.sizes == stream.info.sizes
    for name, columns in whole.parts.items():
        assert isinstance(stream.parts[name], FileRows)
        assert len(stream.parts[name]) == len(columns["label"])
        for column, values in stream.parts[name].read().items():
            np.testing.assert_array_equal(values, columns[column])
            assert values.dtype == columns[column].dtype
    few, same = take(stream.train, slice(3)), take(whole.train, slice(3))
    assert list(stream.only("label").train[0]) == ["label"]
    np.testing.assert_array_equal(few["image"], same["image"])
    train, held = dl.train_batches(stream.train, 4, 3), dl.held_out(stream, 3)
    assert isinstance(train, StreamBatches)
    np.testing.assert_array_equal(
        train[7]["image"], dl.train_batches(whole.train, 4, 3)[7]["image"]
    )
    assert isinstance(held["tests"]["test"], StreamEvalBatches)
    assert dl.eval_batches(stream.test, 500).batch_size == 2
    with raises("batch-size-impossible", "choose 1 to 16"):
        dl.train_batches(stream.train, 17)


def test_a_streams_digest_is_of_its_rows_and_of_how_they_are_read(tmp_path):
    folder(tmp_path / "a", size=(12, 9))
    folder(tmp_path / "b", size=(12, 9))
    digests = [
        open_pictures(
            tmp_path / name, size=(size,), stream=True, hold_out=(share, 0.1)
        ).train.digest()
        for name, size, share in (("a", 8, 0.1), ("b", 8, 0.1), ("a", 9, 0.1), ("a", 8, 0.2))
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_pictures_beyond_a_quarter_of_memory_stream(tmp_path, monkeypatch):
    monkeypatch.setattr("dl.data.own.pixels.host_memory", lambda: 4 * 20 * 8 * 8 * 3 - 1)
    splits = open_pictures(folder(tmp_path))
    assert isinstance(splits.train, FileRows)
    assert "above a quarter" in told(splits)["memory"]


def test_streamed_pictures_train_to_the_same_bits(tmp_path):
    kind, build = load_script(SCRIPT)
    data = str(folder(tmp_path / "data"))
    tiny = {"data": data, "epochs": 2, "batch_size": 5, "widths": (4, 4), "seed": 1}
    runs = [
        dl.train(
            build, kind(**tiny, stream=stream), runs=tmp_path, name=f"{stream}", progress=False
        )
        for stream in (False, True)
    ]
    assert runs[0].metrics == runs[1].metrics
    traced = [traceable_fields(built(build, kind(**tiny, stream=s))).values for s in (False, True)]
    assert traced[0].keys() - traced[1].keys() == {"seed"}  # a stream's order is the host's
    assert first_difference(runs[0].folder, runs[1].folder) is None


@pytest.mark.parametrize("stream", [False, True])
def test_a_digest_is_of_bytes_and_not_of_paths(tmp_path, stream):
    root = folder(tmp_path / "p")

    def digests():
        found = open_pictures(root, stream=stream)
        return found.info.digests, dl.train_batches(found.train, 4).digest()

    before = digests()
    assert digests() == before
    for file in root.rglob("*.png"):
        picture(file, 199, seed=99)
    after = digests()
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_pictures_that_cannot_be_opened_are_counted_with_those_that_are_cut_off(tmp_path):
    folder(tmp_path)
    first, *rest = sorted(tmp_path.rglob("*.png"))[:3]
    first.write_bytes(b"no picture")
    for path in rest:
        path.write_bytes(path.read_bytes()[:-100])  # their headers are whole
    with raises("picture-damaged", first.name, "2 more cannot be read"):
        open_pictures(tmp_path)


def test_classes_that_look_alike_are_told(tmp_path):
    for place, name in enumerate(("caf\u00e9", "cafe\u0301", "tea")):
        (tmp_path / "p" / name).mkdir(parents=True)
        for row in range(3):
            grey = np.full((8, 8), 30 * place + row, np.uint8)
            Image.fromarray(grey).save(tmp_path / "p" / name / f"{row}.png")
    splits = dl.data.open(tmp_path / "p", "pictures", hold_out=(0.0, 0.0))
    if len(list((tmp_path / "p").iterdir())) == 3:
        assert splits.info.classes == ("caf\u00e9", "tea")
        assert np.bincount(splits.train["label"]).tolist() == [6, 3]
        assert any("composed differently" in line.more for line in splits.info.details["lines"])
    rows = "".join(f"some words {n},{('Good', 'good', 'bad')[n % 3]}\n" for n in range(30))
    (tmp_path / "t.csv").write_text(f"text,label\n{rows}")
    lines = dl.data.open(tmp_path / "t.csv", "texts").info.details["lines"]
    assert any(line.taken_for == "2 classes look alike" for line in lines)


def test_every_step_sees_another_part_of_a_picture_by_seed_and_step(tmp_path):
    splits = open_pictures(folder(tmp_path, size=(40, 30)), stream=True, size=(12, 16))
    batches = dl.train_batches(random_parts(splits.train), 4, seed=3)
    check_batches(batches, by_step=("image",))
    assert batches[0]["image"].shape == (4, 12, 16, 3)
    plain = dl.train_batches(splits.train, 4, seed=3)
    assert (batches.indices(7) == plain.indices(7)).all()
    assert (batches[7]["label"] == plain[7]["label"]).all()
    assert batches.digest() != plain.digest()
    other = dl.train_batches(random_parts(splits.train), 4, seed=4)
    seen = {image.tobytes() for step in range(40) for image in batches[step]["image"]}
    assert len(seen) == 160
    assert not seen & {image.tobytes() for step in range(40) for image in other[step]["image"]}
    held = dl.eval_batches(random_parts(splits.train), 4)  # nothing is drawn
    np.testing.assert_array_equal(held[0]["image"], dl.eval_batches(splits.train, 4)[0]["image"])
    with raises("option-misplaced", "--resized-crop", "--stream"):
        random_parts(open_pictures(tmp_path).train)


@pytest.mark.slow
@pytest.mark.parametrize("script", [False, True])
def test_any_number_of_workers_reads_the_same_bits(tmp_path, script):
    root = folder(tmp_path / "data", count=12, size=(40, 30))
    fields = {"stream": True, "size": (16,)}
    if script:
        kind, build = load_script(SCRIPT)
        own = {
            "data": str(root),
            "epochs": 4,
            "batch_size": 5,
            "widths": (4,),
            "resized_crop": True,
        }
        runs = [
            dl.train(
                build, kind(**own, **fields, workers=n), runs=tmp_path, name=f"{n}", progress=False
            )
            for n in (0, 2)
        ]
        assert first_difference(runs[0].folder, runs[1].folder) is None
        return
    found = []
    for workers in (0, 1, 3):
        train = random_parts(open_pictures(root, workers=workers, **fields).train)
        batches = dl.train_batches(train, 4, seed=3)
        assert batches.processes == workers
        found.append([batch["image"] for batch in itertools.islice(batches.iterate(5), 9)])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    with raises("range", "--workers", "-1"):
        open_pictures(root, workers=-1, **fields)


def test_pictures_with_masks_beside_them_are_told(tmp_path):
    for name in ("train", "trainannot", "test", "testannot"):
        (tmp_path / "scenes" / name).mkdir(parents=True)
        for row in range(4):
            Image.fromarray(np.full((8, 8, 3), 9 * row, np.uint8)).save(
                tmp_path / "scenes" / name / f"{row}.png"
            )
    lines = open_pictures(tmp_path / "scenes").info.details["lines"]
    (check,) = (line for line in lines if line.taken_for == "read as pictures")
    assert "dl run segmentation --data scenes" in check.more
