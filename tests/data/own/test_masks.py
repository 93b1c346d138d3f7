"""Masks of one's own: pairs by name, in whichever folders, as numbers, colours or black and white."""

import numpy as np
import pytest
from mistakes import raises
from PIL import Image
from told import told

import dl
from dl.data.batches.streams import FileRows


def save(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path, **options)


def blocks(*values, side=16):
    """A mask of columns, one a value, ``[side, side]``."""
    return np.repeat(np.array(values, np.uint8)[None], side, 0).repeat(side // len(values), 1)


def noise(height=16, width=16, channels=3):
    return np.random.default_rng(height).integers(0, 256, (height, width, channels), np.uint8)


def pairs(root, masks, image="images/{}.jpg", mask="masks/{}.png", picture=None):
    for place, values in enumerate(masks):
        save(root / image.format(place), noise() if picture is None else picture)
        save(root / mask.format(place), values)
    return root


def open_masks(source, **fields):
    return dl.data.open(source, "masks", **({"hold_out": (0.0, 0.0)} | fields))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("Images/{}.PNG", "Labels/{}_mask.png"),
        ("train/imgs/{}.jpg", "train/annotations/{}.png"),
        ("images/train/{}.jpg", "masks/train/{}.png"),
        ("train/{}.jpg", "trainannot/{}.png"),
        ("shots/{}_sat.jpg", "shots/{}_mask.png"),
        ("tiles/{}.jpg", "tiles/{}.png"),
        ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
        ("raw/{}.jpg", "raw_GroundTruth/{}_segmentation.png"),
    ],
)
def test_pictures_and_masks_find_each_other(tmp_path, image, mask):
    splits = open_masks(pairs(tmp_path, [blocks(0, 1), blocks(1, 0)], image, mask))
    assert splits.train["image"].shape == (2, 16, 16, 3)
    assert splits.train["segments"].dtype == np.int16
    np.testing.assert_array_equal(splits.train["segments"][:, 0, 0], [0, 1])


def test_parts_are_those_of_folders_or_lists(tmp_path):
    root = pairs(tmp_path / "a", [blocks(0, 1)] * 2, "train/{}.jpg", "train_labels/{}.png")
    pairs(root, [blocks(0, 1)], "val/{}.jpg", "val_labels/{}.png")
    assert open_masks(root).info.sizes == {"train": 2, "validation": 1}
    root = pairs(
        tmp_path / "b", [blocks(0, 1)] * 4, "JPEGImages/{}.jpg", "SegmentationClass/{}.png"
    )
    for kind, rows in (("Main", "0\n3\n"), ("Segmentation", "0\n1\n")):
        (root / "ImageSets" / kind).mkdir(parents=True)
        (root / "ImageSets" / kind / "train.txt").write_text(rows)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("2\n")
    assert open_masks(root).info.sizes == {"train": 2, "validation": 1}


@pytest.mark.parametrize(
    ("values", "fields", "classes", "segments"),
    [
        ((0, 255), {}, ("0", "255"), (0, 1)),
        ((0, 1, 2, 255), {}, ("0", "1", "2"), (0, 1, 2, -1)),
        ((0, 127, 255, 255), {}, ("0", "127", "255"), (0, 1, 2, 2)),
        ((0, 1, 3, 11), {"void": ("11",)}, ("0", "1", "3"), (0, 1, 2, -1)),
        ((0, 1, 2, 3), {"classes": ("w", "x", "y", "z")}, ("w", "x", "y", "z"), (0, 1, 2, 3)),
    ],
)
def test_numbers_are_classes(tmp_path, values, fields, classes, segments):
    splits = open_masks(pairs(tmp_path, [blocks(*values)]), **fields)
    assert splits.info.classes == classes
    np.testing.assert_array_equal(splits.train["segments"][0, 0, :: 16 // len(values)], segments)
    assert ("void" in told(splits)) == (-1 in segments)


def test_the_table_is_read_without_knowing_the_project(tmp_path):
    said = told(open_masks(pairs(tmp_path, [blocks(0, 1, 2, 2)])))
    shares = "3 classes, numbers | 0: 25.0%, 1: 25.0%, 2: 50.0% of pixels"
    assert said["segments"].startswith(f"{shares}; --classes names them; --void takes one out")
    assert "mean over pictures" in said["mean_iou"]
    assert said["size"].startswith("16 high, 16 wide")
    two = told(open_masks(pairs(tmp_path / "two", [blocks(0, 255)]), classes=("sky", "bird")))
    assert "sky (value 0): 50.0%, bird (value 255): 50.0% of pixels" in two["segments"]


def test_colours_are_classes_and_may_have_names(tmp_path):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    root = pairs(tmp_path, [colours[blocks(0, 1, 2, 3)]])
    splits = open_masks(root, void=["#0000ff"])
    assert splits.info.classes == ("#000000", "#00ff00", "#ff0000")
    np.testing.assert_array_equal(splits.train["segments"][0, 0, ::4], [0, 2, 1, -1])
    assert "colours" in told(splits)["segments"]
    (root / "class_dict.csv").write_text(
        "name,r,g,b\nsky,0,0,255\nroad,255,0,0\ntree,0,255,0\nvoid,0,0,0\n"
    )
    splits = open_masks(root)
    assert splits.info.classes == ("sky", "road", "tree", "void")
    np.testing.assert_array_equal(splits.train["segments"][0, 0, ::4], [3, 1, 2, 0])


def test_palettes_and_lossy_masks_of_two_values_are_read(tmp_path):
    root = pairs(tmp_path / "p", [])
    picture = Image.fromarray(blocks(0, 1, 2, 255)).convert("P")
    picture.putpalette(list(range(256)) * 3)
    save(root / "images" / "0.jpg", noise())
    (root / "masks").mkdir(parents=True)
    picture.save(root / "masks" / "0.png")
    np.testing.assert_array_equal(open_masks(root).train["segments"][0, 0, ::4], [0, 1, 2, -1])
    lossy = pairs(tmp_path / "j", [blocks(0, 255)], mask="masks/{}.jpg")
    np.testing.assert_array_equal(open_masks(lossy).train["segments"][0, 0, ::8], [0, 1])


def test_names_come_from_a_file(tmp_path):
    root = pairs(tmp_path, [blocks(0, 1, 3, 3)])
    (root / "classes.txt").write_text("sky\nroad\ncar\ntree\n")
    assert open_masks(root).info.classes == ("sky", "road", "tree")


def test_sizes_are_padded_scaled_and_shown(tmp_path):
    root = pairs(tmp_path, [blocks(0, 1)])
    save(root / "images" / "9.jpg", noise(20, 40, 1)[..., 0])
    save(root / "masks" / "9.png", np.full((20, 40), 1))
    splits = open_masks(root)
    assert splits.train["image"].shape == (2, 32, 48, 3)
    np.testing.assert_array_equal((splits.train["segments"] >= 0).sum((1, 2)), [256, 800])
    assert "do not count" in told(splits)["size"]
    splits = open_masks(root, size=(64,))
    assert splits.train["segments"].shape == (2, 64, 64)
    np.testing.assert_array_equal((splits.train["segments"] >= 0).sum((1, 2)), [64 * 64, 32 * 64])
    save(tmp_path / "large" / "a.jpg", noise(1024, 512))
    save(tmp_path / "large" / "a_mask.png", blocks(0, 1, side=1024)[:, 256:-256])
    splits = open_masks(tmp_path / "large")
    assert splits.train["image"].shape[1:3] == (512, 256)
    assert "scaled to 0.5" in told(splits)["size"]


def test_mistakes_are_named(tmp_path):
    root = pairs(tmp_path, [blocks(0, 1), blocks(0, 1)])
    with raises("mask-value", "--void 7", "0, 1"):
        open_masks(root, void=("7",))
    with raises("classes-differ", "names 1", "2 values", "0, 1"):
        open_masks(root, classes=("a",))
    with raises("option-misplaced", "--group"):
        open_masks(root, group="patient")
    save(root / "images" / "5.png", noise())
    assert told(open_masks(root))["left out"].startswith("1 picture without a mask")
    with raises("mask-size", "2 masks", "0.png"):
        open_masks(pairs(tmp_path / "b", [np.zeros((8, 8))] * 2))
    with raises("mask-classes", "more than 255"):
        open_masks(pairs(tmp_path / "c", [noise(32, 32)], picture=noise(32, 32)))
    with raises("target-one-class", "one value, 0"):
        open_masks(pairs(tmp_path / "d", [np.zeros((16, 16))]))
    with raises("no-masks", "1 picture and 0 masks"):
        save(tmp_path / "none" / "a.png", noise())
        open_masks(tmp_path / "none")
    with raises("folder-missing"):
        open_masks(root / "images" / "0.jpg")


def test_masks_stream_with_the_rows_in_memory(tmp_path):
    root = pairs(tmp_path, [blocks(0, 1), blocks(1, 0), blocks(0, 0, 1, 0)])
    whole, stream = open_masks(root, size=(32,)), open_masks(root, size=(32,), stream=True)
    assert isinstance(stream.train, FileRows)
    for name, values in stream.train.read().items():
        np.testing.assert_array_equal(values, whole.train[name])
    assert dl.eval_batches(stream.train, 2).digest() != dl.eval_batches(whole.train, 2).digest()


def groups(root, rows, heading="picture,group"):
    (root / "groups.csv").write_text("\n".join([heading, *(f"{a},{b}" for a, b in rows)]))


def test_tiles_of_a_group_stay_in_one_part(tmp_path):
    root = pairs(tmp_path, [blocks(0, 1, (n % 7) + 2, 3) for n in range(40)])
    groups(root, [(f"images/{n}", f"photo{n // 4}") for n in range(40)])
    splits = open_masks(root, hold_out=(0.2, 0.2), size=16)
    assert told(splits)["column group"].startswith("groups")
    assert told(splits)["groups"].endswith("whole")
    assert {name: len(part["image"]) % 4 for name, part in splits.parts.items()} == dict.fromkeys(
        ("train", "validation", "test"), 0
    )
    groups(root, [(f"{n}.jpg", "train" if n else "test") for n in range(40)], "file,split")
    assert len(open_masks(root).test["image"]) == 1
    with raises("column-unknown", "--group", "photo"):
        open_masks(root, group="photo")
    groups(root, [(f"{n}.jpg", n) for n in range(39)])
    with raises("file-missing", "groups.csv", "39"):
        open_masks(root)


def test_values_on_a_few_pixels_are_no_classes_unless_asked_for(tmp_path):
    mask = blocks(0, 255, side=256)
    mask[5, 5:7] = 254
    root = pairs(tmp_path / "few", [mask], picture=noise(256, 256))
    with raises("mask-stray", "254 on 2 pixels", "0, 255", "--stray nearest"):
        open_masks(root)
    splits = open_masks(root, stray="nearest", size=256)
    assert splits.info.classes == ("0", "255")
    assert splits.train["segments"][0, 5, 5] == 1
    assert "2 pixels" in told(splits)["stray"]
    assert open_masks(root, stray="void", size=256).train["segments"][0, 5, 5] == -1
    assert len(open_masks(root, stray="class").info.classes) == 3
    blur = blocks(0, 255, side=256)
    blur[:, 124:132] = [3, 9, 5, 1, 250, 254, 251, 249]
    with raises("mask-stray", "1, 3, 5, 9, ..."):
        open_masks(pairs(tmp_path / "blur", [blur], picture=noise(256, 256)))
    assert open_masks(tmp_path / "blur", stray="nearest").info.classes == ("0", "255")
    rare = np.zeros((256, 256))
    rare[:2, :4], rare[9, :9] = 1, 2  # classes by number may be rare
    assert (
        len(open_masks(pairs(tmp_path / "rare", [rare], picture=noise(256, 256))).info.classes) == 3
    )


def test_odd_masks_and_tables_beside_them_get_one_line(tmp_path):
    root = pairs(tmp_path, [blocks(0, 255, 128, 128)] * 4)
    with raises("target-one-class", "besides what is void"):
        open_masks(root, void=("0", "128", "255"))
    with raises("unknown", "--stray 'foo'"):
        open_masks(root, stray="foo")
    groups(root, [("0", "a"), ("1", "b"), ("2", "c"), ("3", "d"), ("3", "a")])
    with raises("parts-overlap", "groups.csv", "3 twice"):
        open_masks(root)
    (root / "groups.csv").unlink()
    (root / "notes.csv").write_bytes("naïve,r\n1,2\n".encode("latin-1"))
    for rows in (
        "name,r,g,b\nsky,a,b,c\n",
        f"name,r,g,b\n{'x' * 200_000},1,2,3\n",
        "n,R,G,B\ns,1,2,300\n",
    ):
        (root / "class_dict.csv").write_text(rows)
        with raises("file-damaged", "class_dict.csv"):
            open_masks(root, encoding="latin-1")


def test_a_picture_may_be_very_long(tmp_path):
    root = pairs(tmp_path, [np.repeat([[0, 1]], 6000, 0)] * 2, picture=noise(6000, 2))
    assert open_masks(root).train["segments"].shape == (2, 512, 16)


def test_numbers_of_classes_are_whole(tmp_path):
    root = pairs(tmp_path, [blocks(0, 1)] * 2, mask="masks/{}.tif")
    Image.fromarray(blocks(0, 1).astype(np.float32)).save(root / "masks" / "1.tif")
    assert open_masks(root).info.classes == ("0", "1")
    Image.fromarray(np.full((16, 16), 0.4, np.float32)).save(root / "masks" / "1.tif")
    with raises("mask-value", "1.tif", "0.4"):
        open_masks(root)


def test_what_lies_beside_has_a_digest_and_a_folder_called_so_is_none(tmp_path):
    root = pairs(tmp_path, [blocks(0, 1)] * 10)
    (root / "x.csv").mkdir()
    groups(root, [(str(n), f"g{n // 2}") for n in range(10)])
    before = open_masks(root).info.digests
    groups(root, [(str(n), f"g{n // 3}") for n in range(10)])
    after = open_masks(root).info.digests
    assert {name for name in after if after[name] != before[name]} == {"groups.csv"}
