"""Questions about stories: a row each, the answers as classes or among choices, whole stories in one part."""

import numpy as np
import pandas as pd
import pytest
from mistakes import raises

import dl
from dl.data.own.questions import OwnQuestions
from dl.data.tokenized import tokenized_stories
from dl.data.tokenizers import counted, spaced


@pytest.fixture
def asked():
    """Forty questions, two about each of twenty stories."""
    rows = [
        (f"Ann sat in room {n}. Tom ran!\nThen it was {n % 3}.", f"What is {ask}?", f"{n % 3}")
        for n in range(20)
        for ask in ("it", "that")
    ]
    return pd.DataFrame(rows, columns=["Context", "Query", "Answer"])


@pytest.mark.parametrize("form", ["csv", "jsonl", "frame"])
def test_a_row_is_a_question_and_its_story_lies_in_one_part(tmp_path, asked, form):
    source = tmp_path / f"q.{form}"
    if form == "frame":
        source = asked
    elif form == "csv":
        asked.to_csv(source, index=False)
    else:
        asked.to_json(source, orient="records", lines=True)
    splits = dl.data.open(source, "questions")
    assert splits.info.classes == ("0", "1", "2")
    seen = [set(part["story"]) for part in splits.parts.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 20
    for part in splits.parts.values():
        for story, label in zip(part["story"], part["label"], strict=True):
            assert story.split("\n")[-1] == f"Then it was {label}."


@pytest.mark.parametrize(
    "answers", [["Ann", "Tom"], ["one", "two"], ["A", "B"], ["1", "2"]], ids=lambda a: a[0]
)
def test_an_answer_is_told_by_its_text_its_column_its_letter_or_its_number(asked, answers):
    asked["one"], asked["two"] = "Ann", "Tom"
    asked["Answer"] = [answers[n % 2] for n in range(len(asked))]
    splits = dl.data.open(asked, "questions", choices=("one", "two"), hold_out=(0.0, 0.0))
    assert splits.info.classes == ("one", "two")
    assert splits.train["choices"].tolist() == [["Ann", "Tom"]] * 40
    wanted = [n % 2 for n in range(40)]
    np.testing.assert_array_equal(splits.train["label"], wanted)


def test_mistakes_are_one_line(asked):
    with raises("column-unnamed", "--story", "Query"):
        dl.data.open(asked.drop(columns="Context"), "questions")
    asked["one"] = asked["two"] = "Ann"
    with raises("answer-unknown", "'0'", "one, two"):
        dl.data.open(asked, "questions", choices=("one", "two"))
    with raises("column-unknown", "--choices", "three"):
        dl.data.open(asked, "questions", OwnQuestions(choices=("three",)))
    asked["Answer"] = ""
    with raises("table-empty", "no row"):
        dl.data.open(asked, "questions")


def test_stories_become_numbers_and_their_beginnings_are_left_out(asked):
    splits = dl.data.open(asked, "questions", hold_out=(0.0, 0.0))
    texts = (line for story in splits.train["story"] for line in story.split("\n"))
    words = counted("word", map(spaced, [*texts, *splits.train["question"]]))
    with pytest.warns(UserWarning, match="40 of 40 stories have more than 2 sentences"):
        rows = tokenized_stories(splits, words, 2, 9).train
    assert rows["story"].shape == (40, 2, 9)
    assert rows["story"].dtype == np.uint16
    np.testing.assert_array_equal(rows["story_length"], 2)
    for text, row in zip(splits.train["story"], rows["story"], strict=True):
        for sentence, numbers in zip(text.split("\n")[-2:], row, strict=True):
            assert words.decode(numbers) == spaced(sentence)
    with pytest.warns(UserWarning, match="more than 3 words") as told:
        short = tokenized_stories(splits, words, 4, 3).train["story"]
    for what in ("120 sentences", "40 questions and choices"):
        assert any(f"of {what} have more than 3 words" in str(one.message) for one in told)
    np.testing.assert_array_equal(short[:, -2:], rows["story"][..., :3])
