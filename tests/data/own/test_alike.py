"""Another file is read as the one trained on: by the names of columns and classes, in the same shapes."""

import numpy as np
from mistakes import raises
from PIL import Image

from dl.data import load, open_alike
from dl.data import open as open_data


def pets(root, classes, side=9, channels=()):
    for row in range(40):
        folder = root / classes[row % len(classes)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((side, side, *channels), row, np.uint8)).save(folder / f"{row}.png")
    return root


def test_pictures_by_the_names_of_their_classes_and_the_size_of_training(tmp_path):
    splits = open_data(pets(tmp_path / "a", ("cat", "dog", "newt"), channels=(3,)), "pictures")
    rows = open_alike(pets(tmp_path / "b", ("dog", "newt"), side=30), splits)
    assert rows["image"].shape == (40, 9, 9, 3)
    assert sorted(set(rows["label"].tolist())) == [1, 2]
    with raises("class-unseen", "emu", "cat, dog, newt"):
        open_alike(pets(tmp_path / "c", ("dog", "emu")), splits)
    with raises("data-unknown", "nowhere"):
        open_alike(tmp_path / "nowhere", splits)
    grey = open_data(pets(tmp_path / "d", ("cat", "dog", "newt")), "pictures")
    with raises("picture-channels", "grey"):
        open_alike(tmp_path / "a", grey)


def test_texts_and_tables(tmp_path):
    for name, mark, classes in (("a", ",", "neu good bad"), ("b", ";", "good bad")):
        cells = [
            f"it was {n} so so{mark}{classes.split()[n % len(classes.split())]}" for n in range(60)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"text{mark}label", *cells]))
    splits = open_data(tmp_path / "a.csv", "texts")
    rows = open_alike(tmp_path / "b.csv", splits)
    assert rows["label"][:2].tolist() == [1, 0]
    assert splits.info.classes == ("bad", "good", "neu")
    with raises("class-unseen", "neu"):
        open_alike(tmp_path / "a.csv", open_data(tmp_path / "b.csv", "texts"))
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(40)))
    (tmp_path / "u.csv").write_text("y;more;x\nb;1;7\n")
    table = open_data(tmp_path / "t.csv", "table")
    rows = open_alike(tmp_path / "u.csv", table)
    assert (rows["numerical"].tolist(), rows["label"].tolist()) == ([[7.0]], [1])


def test_a_named_set_has_no_file_to_be_alike_to(tmp_path):
    with raises("set-of-another-kind", "pictures, texts, recordings, table"):
        open_alike(tmp_path, load("digits"))


def test_pairs_and_plain_text_have_their_columns_and_other_kinds_say_what_to_do(tmp_path):
    for name, first, second in (("a", "en", "de"), ("b", "de", "en")):
        cells = [f"{first} said {n} so\t{second} said {n} so" for n in range(40)]
        (tmp_path / f"{name}.tsv").write_text("\n".join([f"{first}\t{second}", *cells]))
        (tmp_path / f"{name}.txt").write_text("".join(f"all is {n} told\n" for n in range(40)))
    pairs = open_data(tmp_path / "a.tsv", "pairs", source="en", target="de")
    rows = open_alike(tmp_path / "b.tsv", pairs)
    assert (rows["source"][0], rows["target"][0]) == ("en said 0 so", "de said 0 so")
    rows = open_alike(tmp_path / "b.txt", open_data(tmp_path / "a.txt", "corpus"))
    assert "".join(rows["text"]) == (tmp_path / "b.txt").read_text()
    (tmp_path / "s.csv").write_text("x\n" + "".join(f"{n % 7}.5\n" for n in range(200)))
    series = open_data(tmp_path / "s.csv", "series")
    with raises("set-of-another-kind", "trained on series cannot be judged", "`dl predict`"):
        open_alike(tmp_path / "s.csv", series)


def test_the_very_files_that_were_trained_on_are_told(tmp_path, capfd):
    splits = open_data(pets(tmp_path / "a", ("cat", "dog")), "pictures")
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(40)))
    table = open_data(tmp_path / "t.csv", "table")
    open_alike(pets(tmp_path / "b", ("dog", "cat")), splits)
    assert "own data" not in capfd.readouterr().err
    for path, trained in ((tmp_path / "a", splits), (tmp_path / "t.csv", table)):
        open_alike(path, trained)
        assert "files of the run's own data" in capfd.readouterr().err
