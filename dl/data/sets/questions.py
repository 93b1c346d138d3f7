"""Questions about stories: ``story`` (a sentence a line), ``question``, and ``label``, the answer's class, or the
place of the right one among ``choices [n, 4]``."""

import dataclasses
import re

import numpy as np

from dl.data.readers.files import File, damaged, members
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, take

_TASK = re.compile(r"qa(\d+)_.*_(train|test)\.txt$")
_SENTENCE = re.compile(r"(?<=[.!?])[\"']*\s+|\n+")


def sentences(text: str) -> str:
    """``text`` with a sentence a line: what ends in a mark, or with a line.

    >>> sentences("Tom ran. Ann sat!")
    'Tom ran.\\nAnn sat!'
    """
    return "\n".join(part.strip() for part in _SENTENCE.split(text) if part.strip())


def column(texts: list[str]) -> np.ndarray:
    """Texts of any length as they are: in an array of strings each would take as much room as the longest."""
    out = np.empty(len(texts), object)
    out[:] = texts
    return out


def _babi_file(text: str) -> tuple[list[str], list[str], list[str], list[int]]:
    """The stories, questions and answers of a file, and of which story each is."""
    stories, questions, answers, which, story = [], [], [], [], -1
    said: list[str] = []
    for line in text.splitlines():
        number, _, rest = line.partition(" ")
        if number == "1":
            said, story = [], story + 1
        question, *answer = rest.split("\t")
        if answer:
            stories.append("\n".join(said))
            questions.append(question.strip())
            answers.append(answer[0])
            which.append(story)
        else:
            said.append(rest)
    return stories, questions, answers, which


def _read_babi(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    read: dict[str, list] = {"train": [], "test": []}
    for name, data in members(path, ".txt"):
        if found := _TASK.search(name):
            read[found[2]].append((int(found[1]), *_babi_file(data.decode("utf-8"))))
    if not read["train"] or not read["test"]:
        raise damaged(path, "no files qa1_..._train.txt and qa1_..._test.txt are in it")
    trained = {task for task, *_ in read["train"]}
    classes = tuple(sorted({word for *_, said, _ in read["train"] for word in said}))
    place = {word: number for number, word in enumerate(classes)}

    def part(name: str) -> tuple[Columns, np.ndarray]:
        files = sorted(file for file in read[name] if file[0] in trained)
        each = {}
        for number, key in enumerate(("story", "question", "answer"), 1):
            each[key] = [text for file in files for text in file[number]]
        sizes = [len(file[1]) for file in files]
        task = np.repeat(np.array([file[0] for file in files], np.int32), sizes)
        odd = next((word for word in each["answer"] if word not in place), None)
        if odd is not None:
            raise damaged(path, f"the answer {odd!r} is in its test files alone")
        label = np.array([place[word] for word in each["answer"]], np.int32)
        # A number for each story of each file.
        story = np.unique(
            np.stack([task, [n for file in files for n in file[4]]], 1), axis=0, return_inverse=True
        )[1].reshape(-1)
        texts = {key: column(each[key]) for key in ("story", "question")}
        return {**texts, "label": label, "task": task}, story

    (train, story), (test, _) = part("train"), part("test")
    of_story = train["task"][np.unique(story, return_index=True)[1]]
    count = 0.1 if validation is None else validation
    _, chosen = hold_out(len(of_story), count, seed, of_story)
    inside = np.isin(story, chosen)
    held = take(train, np.flatnonzero(inside)) if inside.any() else {}
    info = dataclasses.replace(info, classes=classes)
    return Splits(take(train, np.flatnonzero(~inside)), held, test, info)


def _read_mctest(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    files = {
        name.rpartition("/")[2]: data.decode("utf-8")
        for name, data in members(path, ".tsv", ".ans")
    }

    def part(name: str) -> Columns:
        rows: dict[str, list] = {"story": [], "question": [], "choices": [], "label": []}
        for size in ("mc160", "mc500"):
            stories = files[f"{size}.{name}.tsv"].splitlines()
            keys = files[f"{size}.{name}.ans"].splitlines()
            for line, key in zip(stories, keys, strict=True):
                _, _, text, *cells = line.split("\t")
                text = text.replace("\\newline", " ").replace("\\tab", " ")
                for number, letter in enumerate(key.split("\t")):
                    question, *choices = cells[5 * number : 5 * number + 5]
                    rows["story"].append(sentences(text))
                    rows["question"].append(question.partition(": ")[2])
                    rows["choices"].append(choices)
                    rows["label"].append("ABCD".index(letter))
        texts = {key: column(rows[key]) for key in ("story", "question")}
        label = np.array(rows["label"], np.int32)
        return {**texts, "choices": np.array(rows["choices"]), "label": label}

    try:
        return Splits(part("train"), part("dev"), part("test"), info)
    except (KeyError, ValueError) as error:
        raise damaged(path, error) from None


SETS = (
    DataSet(
        Info(
            "babi",
            "bAbI, 19 tasks together",
            "Weston et al. 2015; copy in Zevere/NLP-Python",
            "CC BY 3.0",
            "question answering",
            "story: a simulated story up to the question, a sentence a line; question; label; task: 1 to 20 but "
            "3, whose training file is not in the copy. 10,000 training questions of each (the 10k set, version "
            "1.2), of which a tenth of the stories is held out by seed, and 1,000 to test. Answers of several "
            "words are a class each",
        ),
        (
            File(
                "en-10k.tar.gz",
                (),
                ("8b125e0b6dbbfb9c0bbcf3bb83b026044ba9c8ba6519306e78b4b6d1548c68d4",),
                2414253,
            ),
        ),
        _read_babi,
    ),
    DataSet(
        Info(
            "mctest",
            "MCTest",
            "Richardson, Burges & Renshaw 2013; copy in mcobzarenco/mctest",
            "Microsoft Research licence, no commercial use",
            "question answering",
            "story: of some 20 sentences for children of seven, a sentence a line; question; four choices; label, "
            "the place of the right one. 660 stories with four questions each, MC160 and MC500 together, split "
            "as published: 370, 80 and 210 stories",
            ("A", "B", "C", "D"),
        ),
        (
            File(
                "mctest.tar.gz",
                (),
                ("16109ea7b1fb6b17a69c5165d80acd38bbb7a404275778047d3954726cbf8a4c",),
                389450,
            ),
        ),
        _read_mctest,
    ),
)
