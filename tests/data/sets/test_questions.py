"""bAbI and MCTest are read as they were published."""

import io
import tarfile

import numpy as np
import pytest
from mistakes import raises

import dl.data


def packed(folder, name, files):
    folder.mkdir()
    with tarfile.open(folder / name, "w:gz") as archive:
        for inner, text in files.items():
            data = text.encode()
            member = tarfile.TarInfo(inner)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


STORY = "1 Ann sat.\n2 Who sat? \tAnn\t1\n3 Tom ran.\n4 Who ran?\tTom\t3\n"


def test_a_story_is_what_was_told_before_the_question(tmp_path):
    train = "".join(STORY.replace("Ann", name) for name in ("Ann", "Sue", "Eve", "Kim"))
    files = {"qa1_a_train.txt": train, "qa1_a_test.txt": STORY, "qa3_b_test.txt": STORY}
    packed(tmp_path / "babi", "en-10k.tar.gz", files)
    splits = dl.data.load("babi", tmp_path, validation=0.25)
    assert splits.info.sizes == {
        "train": 6,
        "validation": 2,
        "test": 2,
    }  # whole stories; not task 3
    assert splits.test["story"].tolist() == ["Ann sat.", "Ann sat.\nTom ran."]
    assert splits.test["question"].tolist() == ["Who sat?", "Who ran?"]
    assert [splits.info.classes[n] for n in splits.test["label"]] == ["Ann", "Tom"]
    np.testing.assert_array_equal(splits.test["task"], 1)
    held, kept = (
        {text.partition(" ")[0] for text in part["story"]}
        for part in (splits.validation, splits.train)
    )
    assert len(held) == 1
    assert not held & kept


def test_an_answer_that_training_lacks_is_named(tmp_path):
    files = {"qa1_a_train.txt": STORY, "qa1_a_test.txt": STORY.replace("Tom", "Max")}
    packed(tmp_path / "babi", "en-10k.tar.gz", files)
    with raises("file-damaged", "'Max'"):
        dl.data.load("babi", tmp_path)


def test_four_choices_and_the_right_one(tmp_path):
    ask = "\t".join(f"one: Who is {n}?\tAnn\tTom\tSue\tBob" for n in range(4))
    story = f'mc.0\tAuthor: 1\tAnn sat.  "Tom ran!" They went to\\newlinethe park.\t{ask}\n'
    files = {
        f"{size}.{part}.{end}": text
        for size in ("mc160", "mc500")
        for part in ("train", "dev", "test")
        for end, text in (("tsv", story), ("ans", "A\tD\tB\tC\n"))
    }
    packed(tmp_path / "mctest", "mctest.tar.gz", files)
    splits = dl.data.load("mctest", tmp_path)
    assert splits.info.sizes == {"train": 8, "validation": 8, "test": 8}
    assert splits.train["story"][0] == 'Ann sat.\n"Tom ran!\nThey went to the park.'
    assert splits.train["question"][1] == "Who is 1?"
    assert splits.train["choices"][0].tolist() == ["Ann", "Tom", "Sue", "Bob"]
    np.testing.assert_array_equal(splits.train["label"], [0, 3, 1, 2] * 2)


@pytest.mark.data
def test_the_real_sets(data_dir):
    babi = dl.data.load("babi", data_dir)
    assert babi.info.sizes == {"train": 170998, "validation": 19002, "test": 19000}
    assert len(babi.info.classes) == 60
    assert sorted(set(babi.test["task"].tolist())) == [n for n in range(1, 21) if n != 3]
    assert dl.data.load("mctest", data_dir).info.sizes == {
        "train": 1480,
        "validation": 320,
        "test": 840,
    }
