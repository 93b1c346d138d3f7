"""Simple readers of stories, against what a few lines of Python say."""

import numpy as np

from dl.baselines.stories import question_alone, sliding_window, story_baselines
from dl.data.splits import Info, Splits

INFO = Info("s", "s", "", "", "question answering", "")


def test_a_window_of_as_many_words_as_are_asked_for():
    story, question = "The cat sat. The dog ran, and the dog ate the bone!", "Who ran?"
    words = ["the", "cat", "sat", "the", "dog", "ran", "and", "the", "dog", "ate", "the", "bone"]
    wanted = []
    for choice in ("The dog", "a cat"):
        asked = {"who", "ran", *choice.lower().split()}
        best = 0.0
        for start in range(len(words)):
            some = words[start : start + len(asked)]
            best = max(best, sum(np.log(1 + 1 / words.count(w)) for w in some if w in asked))
        wanted.append(best)
    np.testing.assert_allclose(sliding_window(story, question, ["The dog", "a cat"]), wanted)
    assert sliding_window("...", question, ["The dog", "a cat"]).tolist() == [0.0, 0.0]
    assert wanted[0] > wanted[1]


def part(questions, labels, **more):
    story = np.array(["The cat sat. The dog ran."] * len(labels), object)
    return {
        "story": story,
        "question": np.array(questions, object),
        "label": np.array(labels),
        **more,
    }


def test_the_usual_answer_to_the_same_question():
    train = part(["a?", "a?", "a?", "b?", "c?"], [1, 1, 0, 2, 1])
    splits = Splits(train, part(["a?", "b?"], [1, 0]), part(["b?", "new?"], [2, 1]), INFO)
    assert question_alone(splits) == {"validation/accuracy": 0.5, "test/accuracy": 1.0}
    assert set(story_baselines(splits)) == {"question alone", "majority"}


def test_choices_have_a_window():
    choices = {"choices": np.array([["a cat", "the dog"]] * 2)}
    rows = part(["Who ran?", "Who sat?"], [1, 0], **choices)
    found = story_baselines(Splits(rows, {}, rows, INFO))
    assert set(found) == {"sliding window", "majority"}
