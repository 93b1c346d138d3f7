"""Text: columns of strings, one sentence or character a row."""

import itertools
import json
import re

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import File, damaged, read
from dl.data.splits import Columns, DataSet, Info, Splits, hold_out, rows_of, take


def decode(path) -> str:
    try:
        return read(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise damaged(path, error) from None


def _read_shakespeare(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    text = np.array(list(decode(path)), "<U1")
    if len(text) < 10:
        raise damaged(path, f"{len(text)} characters")
    train, held = ({"text": part} for part in np.split(text, [int(0.9 * len(text))]))
    if validation is None:
        return Splits(train, held, {}, info)
    count = rows_of(validation, len(train["text"]))
    end = len(train["text"]) - count
    inner = take(train, slice(end, None)) if count else {}
    return Splits(take(train, slice(0, end)), inner, held, info)


def _read_brown(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    words = [word for line in decode(path).splitlines() if line for word in (*line.split(), "\n")]
    count = np.cumsum([word != "\n" for word in words])  # of words so far
    if count[-1] <= 1_000_000:
        raise damaged(path, f"{count[-1]} words")
    edges = [0, *np.searchsorted(count, (800_000, 1_000_000), "right"), len(words)]
    texts = (re.sub(" ?\n ?", "\n", " ".join(words[a:b])) for a, b in itertools.pairwise(edges))
    train, held, test = ({"text": np.array(text.splitlines(keepends=True))} for text in texts)
    if validation is not None:
        end = len(train["text"]) - rows_of(validation, len(train["text"]))
        train, held = take(train, slice(0, end)), take(train, slice(end, None))
    return Splits(train, held if len(held["text"]) else {}, test, info)


def _read_synopses(paths, info, validation, seed) -> Splits:
    def part(name: str) -> Columns:
        path = paths[f"{name}.jsonl.gz"]
        try:
            rows = [json.loads(line) for line in decode(path).splitlines()]
            return {
                side: np.array([row[side] for row in rows], "T") for side in ("text", "summary")
            }
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(path, error) from None

    train, held, test = map(part, ("train", "validation", "test"))
    if validation is not None:
        kept, out = hold_out(len(train["text"]), validation, seed)
        train, held = take(train, kept), take(train, out) if len(out) else {}
    return Splits(train, held, test, info)


def _read_sst2(paths, info, validation, seed) -> Splits:
    def part(path) -> Columns:
        text, label = [], []
        for number, line in enumerate(decode(path).splitlines(), 1):
            sentence, tab, mark = line.rpartition("\t")
            if not tab or mark not in ("0", "1"):
                raise UserError(
                    "file-damaged", f"{path}, line {number}: expected a sentence, a tab and 0 or 1"
                )
            text.append(sentence)
            label.append(int(mark))
        return {"text": np.array(text), "label": np.array(label, np.int32)}

    train, held, test = (part(paths[f"{name}.tsv"]) for name in ("train", "dev", "test"))
    if validation is not None:
        kept, out = hold_out(len(train["label"]), validation, seed, train["label"])
        train, held = take(train, kept), take(train, out) if len(out) else {}
    return Splits(train, held, test, info)


def _read_phrases(paths, info, validation, seed) -> Splits:
    beside = {path.name: path for path in paths.values()}
    sentences = _read_sst2({**beside, "train.tsv": beside["dev.tsv"]}, info, None, seed)
    held = {*sentences.validation["text"].tolist(), *sentences.test["text"].tolist()}
    text, label = [], []
    for line in decode(paths["train.tsv.gz"]).splitlines()[1:]:
        phrase, _, mark = line.rpartition("\t")
        if phrase.strip() not in held:
            text.append(phrase.strip())
            label.append(int(mark))
    train: Columns = {"text": np.array(text), "label": np.array(label, np.int32)}
    return Splits(train, sentences.validation, sentences.test, info)


def _read_trec(paths, info, validation, seed) -> Splits:
    def part(path) -> Columns:
        lines = [line.partition(" ") for line in decode(path).splitlines() if line]
        names = [kind.partition(":")[0] for kind, _, _ in lines]
        label = np.array([info.details["codes"].index(name) for name in names], np.int32)
        return {"text": np.array([text for *_, text in lines]), "label": label}

    train, test = part(paths["train.txt.gz"]), part(paths["test.txt.gz"])
    count = 0.1 if validation is None else validation
    kept, held = hold_out(len(train["label"]), count, seed, train["label"])
    return Splits(take(train, kept), take(train, held) if len(held) else {}, test, info)


def _read_multi30k(paths, info, validation, seed) -> Splits:
    def part(name: str) -> Columns:
        columns = {}
        for language in ("en", "de"):
            lines = decode(paths[f"{name}.{language}.gz"]).split("\n")
            columns[language] = [line.strip() for line in lines[: -1 if not lines[-1] else None]]
        if len(columns["en"]) != len(columns["de"]):
            raise UserError(
                "file-damaged",
                f"{paths[f'{name}.en.gz'].parent}: {name}.en and {name}.de differ in length",
            )
        return {language: np.array(lines) for language, lines in columns.items()}

    train, held, test = part("train"), part("val"), part("test_2016_flickr")
    if validation is not None:
        kept, out = hold_out(len(train["en"]), validation, seed)
        train, held = take(train, kept), take(train, out) if len(out) else {}
    return Splits(train, held, test, info)


_SST2 = (
    "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/master/data/SST2/"
)
_MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"

SETS = (
    DataSet(
        Info(
            "tinyshakespeare",
            "tiny Shakespeare",
            "Karpathy 2015, char-rnn",
            "public domain text",
            "language modelling",
            "text: 1,115,394 rows of one character, 65 distinct. The first 90 % train and the last "
            "10 % are validation, as published; there is no third part. Asking for a validation part "
            "takes it from the end of the training text and makes the last 10 % the test part",
        ),
        (
            File(
                "input.txt",
                (
                    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
                    "tinyshakespeare/input.txt",
                ),
                ("86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",),
                1115394,
            ),
        ),
        _read_shakespeare,
    ),
    DataSet(
        Info(
            "brown",
            "Brown corpus",
            "Francis & Kucera 1964; copy in nltk_data, tags removed",
            "free for non-commercial use",
            "language modelling",
            "text: lines of a sentence, words and marks between blanks. As in Bengio et al. 2003 the first "
            "800,000 words train, the next 200,000 are validation, the other 161,192 test, "
            "which is of other genres (fiction last)",
        ),
        (
            File(
                "brown.txt.gz",
                sha256=("05b30fa2e977f68f7ac019003edcf0517518d9710e7bfffdf7f5f5bc950bb5e9",),
            ),
        ),
        _read_brown,
    ),
    DataSet(
        Info(
            "debian_synopses",
            "Debian package descriptions",
            "Debian 12's indices",
            "free software (each package's own, DFSG-free)",
            "summarisation",
            "text, summary: a package's description and its line of 3 to 16 words. 40,203 train, 1,642 "
            "validation, 1,697 test; packages of one source stay together",
        ),
        tuple(
            File(f"{name}.jsonl.gz", sha256=(digest,))
            for name, digest in {
                "train": "49187275aea76af8d336ff529cbc336c592bdc0483f887af2039b5f890e69bac",
                "validation": "6e7034cdb6862429e3164ca6511f6ddc2eb44276e32b111aca0197df59e94e75",
                "test": "7156177f1d7438b6831517e026817c8c992399e731d302f507dcda8958c99874",
            }.items()
        ),
        _read_synopses,
    ),
    DataSet(
        Info(
            "sst2",
            "SST-2, sentence level",
            "Socher et al. 2013; copy in clairett/pytorch-sentiment-classification",
            "research use",
            "classification",
            "text: film-review sentences, lower case, tokens between spaces; label. 6,920 train, 872 "
            "validation, 1,821 test, as published",
            ("negative", "positive"),
        ),
        (
            File(
                "train.tsv",
                (_SST2 + "train.tsv",),
                ("ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",),
            ),
            File(
                "dev.tsv",
                (_SST2 + "dev.tsv",),
                ("eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359",),
            ),
            File(
                "test.tsv",
                (_SST2 + "test.tsv",),
                ("831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7",),
            ),
        ),
        _read_sst2,
    ),
    DataSet(
        Info(
            "sst2_phrases",
            "SST-2 with phrases",
            "Socher et al. 2013; GLUE's training set (Wang et al. 2019), and the sentences of sst2",
            "research use",
            "classification",
            "text, label: 67,341 phrases and sentences to train on, without those that are a sentence of "
            "validation or test; these are sst2's, whose files lie beside",
            ("negative", "positive"),
        ),
        (File("train.tsv.gz"), File("../sst2/dev.tsv"), File("../sst2/test.tsv")),
        _read_phrases,
    ),
    DataSet(
        Info(
            "trec_questions",
            "TREC question types",
            "Li & Roth 2002; copy in nltk_data",
            "free for research",
            "classification",
            "text: questions, tokens between spaces; label: six types of answer. 5,452 train, of which a tenth is "
            "held out by seed, and 500 test, as published; 11 of test are in train, too",
            ("abbreviation", "description", "entity", "human", "location", "number"),
            {"codes": ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")},
        ),
        (File("train.txt.gz"), File("test.txt.gz")),
        _read_trec,
    ),
    DataSet(
        Info(
            "multi30k",
            "Multi30k task 1",
            "Elliott et al. 2016",
            "research use (Flickr30k captions)",
            "translation",
            "en, de: raw sentences. 29,000 train, 1,014 validation, 1,000 test (test_2016_flickr)",
        ),
        tuple(
            File(name, (_MULTI30K + name,), (digest,))
            for name, digest in {
                "train.en.gz": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
                "train.de.gz": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
                "val.en.gz": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
                "val.de.gz": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
                "test_2016_flickr.en.gz": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
                "test_2016_flickr.de.gz": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
            }.items()
        ),
        _read_multi30k,
    ),
)
