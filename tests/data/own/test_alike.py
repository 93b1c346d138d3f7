"""Another file is read as the one trained on: by the names of columns and classes, in the same shapes."""

import numpy as np
from mistakes import raises
from PIL import Image

from dl.data import load, open_alike
from dl.data import open as open_data
from dl.data.own.unlabelled import read_unlabelled


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


def by_name(splits, column):
    """What every row trained, chosen or tested on has in a column, by the row's name."""
    names = splits.info.details["row_names"]
    return {
        n: x
        for p, rows in splits.parts.items()
        for n, x in zip(names[p], rows[column], strict=True)
    }


def test_clips_are_read_alike_with_their_class_and_without(tmp_path):
    lines = [
        f"c{clip},{frame},{clip + frame}.5,{frame % (2 + clip % 2)},{['fall', 'rise'][clip % 2]}"
        for clip in range(20)
        for frame in range(5 + clip % 5)
    ]
    # Gaps are filled, the class is called otherwise, and one column more holds numbers.
    (tmp_path / "a.csv").write_text("\n".join(["clip,frame,x,y,action", *lines]))
    few = [line.rpartition(",")[0] + ",3" for line in lines[:11]]  # the shortest two
    (tmp_path / "b.csv").write_text("\n".join(["clip,frame,x,y,speed", *few]))
    splits = open_data(tmp_path / "a.csv", "clips", label="action")
    values, label = by_name(splits, "values"), by_name(splits, "label")
    rows = open_alike(tmp_path / "a.csv", splits)
    names = [f"c{n}" for n in range(20)]
    np.testing.assert_array_equal(rows["values"], np.stack([values[n] for n in names]))
    assert rows["label"].tolist() == [label[n] for n in names]
    new = read_unlabelled([tmp_path / "b.csv"], splits)
    assert new.names["clip"].tolist() == ["c0", "c1"]
    np.testing.assert_array_equal(new.rows["values"], [values["c0"], values["c1"]])
    assert new.rows["length"].tolist() == [5, 6]
    with raises("column-unknown", "label", "action"):
        open_alike(tmp_path / "b.csv", splits)


def test_questions_are_read_alike_with_their_answer_and_without(tmp_path):
    told = [
        f"Ann is in the {['hall', 'park'][n % 2]} at {n}. Bob left.\tWhere is Ann?"
        for n in range(40)
    ]
    answered = [f"{text}\t{['hall', 'park'][n % 2]}" for n, text in enumerate(told)]
    (tmp_path / "a.tsv").write_text("\n".join(["story\tquestion\tanswer", *answered]))
    (tmp_path / "b.tsv").write_text(
        "\n".join(["question\tstory", "Where?\tAnn is. Bob.", "\tNo.", "Who?\tBob."])
    )
    splits = open_data(tmp_path / "a.tsv", "questions")
    rows = open_alike(tmp_path / "a.tsv", splits)
    assert rows["label"].tolist() == [0, 1] * 20
    assert rows["story"][1] == "Ann is in the park at 1.\nBob left."
    new = read_unlabelled([tmp_path / "b.tsv"], splits)
    assert new.names["row"].tolist() == [0, 2]  # one has no question
    assert new.rows["story"].tolist() == ["Ann is.\nBob.", "Bob."]


def test_clouds_are_read_alike_and_drawn_by_themselves(tmp_path):
    draw = np.random.default_rng(0)
    for name in ("ball", "cube"):
        (tmp_path / "a" / name).mkdir(parents=True)
        for n in range(10):
            np.save(tmp_path / "a" / name / f"{n}.npy", draw.normal(size=(20, 3)))
    splits = open_data(tmp_path / "a", "clouds", points=8)
    points = by_name(splits, "points")
    rows = open_alike(tmp_path / "a", splits)
    assert {tuple(x.ravel()) for x in rows["points"]} == {tuple(x.ravel()) for x in points.values()}
    one, other = tmp_path / "a/cube/3.npy", tmp_path / "a/ball"
    alone, beside = (read_unlabelled(files, splits) for files in ([one], [other, one]))
    np.testing.assert_array_equal(alone.rows["points"][0], beside.rows["points"][-1])


def test_variables_of_stays_stand_where_training_had_them(tmp_path):
    for name, kept in (("a", ("HR", "RR", "T")), ("b", ("T", "HR", "new"))):
        (tmp_path / name).mkdir()
        events = [
            f"{s},{h},{v},{s + h + len(v)}" for s in range(20) for h in range(3) for v in kept
        ]
        (tmp_path / name / "events.csv").write_text(
            "\n".join(["stay,hour,variable,value", *events])
        )
        fixed = "age,weight" if name == "a" else "weight,more,age"
        cells = [
            f"{s},{s % 2},{','.join(str(s + len(h)) for h in fixed.split(','))}" for s in range(20)
        ]
        (tmp_path / name / "stays.csv").write_text("\n".join([f"stay,label,{fixed}", *cells]))
    splits = open_data(tmp_path / "a", "records")
    first, second = (open_alike(tmp_path / name, splits) for name in "ab")
    assert splits.info.details["variables"] == ("HR", "RR", "T")
    np.testing.assert_array_equal(first["values"][..., [0, 2]], second["values"][..., [0, 2]])
    assert np.isfinite(first["values"][:, 1, 1]).all()
    assert np.isnan(second["values"][..., 1]).all()
    np.testing.assert_array_equal(first["static"], second["static"])
    stays = tmp_path / "b" / "stays.csv"
    rows = [line.split(",") for line in stays.read_text().splitlines()]
    stays.write_text("\n".join(",".join([row[0], *row[2:]]) for row in rows))  # no outcome
    new = read_unlabelled([tmp_path / "a", tmp_path / "b"], splits)
    assert new.names["stay"].tolist() == 2 * [str(n) for n in range(20)]
    for name in ("values", "static"):
        np.testing.assert_array_equal(new.rows[name], np.concatenate([first[name], second[name]]))
    stays.write_text("stay,label,age\n0,1,4\n")
    with raises("column-unknown", "weight"):
        open_alike(tmp_path / "b", splits)


def test_the_very_files_that_were_trained_on_are_told(tmp_path, capfd):
    splits = open_data(pets(tmp_path / "a", ("cat", "dog")), "pictures")
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(40)))
    table = open_data(tmp_path / "t.csv", "table")
    open_alike(pets(tmp_path / "b", ("dog", "cat")), splits)
    assert "own data" not in capfd.readouterr().err
    for path, trained in ((tmp_path / "a", splits), (tmp_path / "t.csv", table)):
        open_alike(path, trained)
        assert "files of the run's own data" in capfd.readouterr().err


def test_a_word_that_was_never_in_training_is_said(tmp_path, capfd):
    rows = [f"{row},{('Rome', 'Oslo')[row % 2]},{row % 3 % 2}" for row in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["age,city,label", *rows]))
    (tmp_path / "b.csv").write_text("city,age\nrome,3\nOslo,4\n")
    (tmp_path / "c.csv").write_text("city,age\nRome,3\nOslo,4\n")
    splits = open_data(tmp_path / "a.csv", "table", target="label")
    capfd.readouterr()
    read_unlabelled([tmp_path / "b.csv"], splits)
    said = capfd.readouterr().err
    assert "b.csv" in said
    assert "never in training: rome" in said
    assert read_unlabelled([tmp_path / "c.csv"], splits).names["row"].tolist() == [0, 1]
    assert capfd.readouterr().err == ""
