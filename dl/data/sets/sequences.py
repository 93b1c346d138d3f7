"""Published sequences of bases with a class each: ``text`` of letters, ``label``, ``group`` of equal ones."""

import csv

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import File, damaged
from dl.data.sets.text import decode
from dl.data.splits import DataSet, Info, Splits, folds, take

PAIRED = str.maketrans("ACGTRYKMBDHV", "TGCAYRMKVHDB")  # ambiguous bases have pairs too


def equal_strands(texts) -> np.ndarray:
    """The number ``[rows]`` of each sequence, the same for equal ones and for those of the other strand."""
    known: dict[str, int] = {}
    for text in map(str.upper, texts):
        if text not in known:
            known[text] = known.get(text.translate(PAIRED)[::-1], len(known))
    return np.array([known[str(text).upper()] for text in texts], np.int64)


def _splits(text: list[str], label: list[int], info: Info, shares: tuple[int, int]) -> Splits:
    """Tenths by seed, classes in proportion and equal sequences together: so many for test and for validation."""
    columns = {"text": np.array(text), "label": np.array(label, np.int32)}
    columns["group"] = equal_strands(text)
    tenth = folds(columns["label"], 10, 0, columns["group"])
    test, held = tenth < shares[0], (tenth >= shares[0]) & (tenth < sum(shares))
    rows = (np.flatnonzero(part) for part in (~test & ~held, held, test))
    train, validation, last = (take(columns, part) for part in rows)
    return Splits(train, validation, last, info)


def _read_splice(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    rows = list(csv.DictReader(decode(path).splitlines(), skipinitialspace=True))
    try:
        label = [info.classes.index(row["label"].strip()) for row in rows]
        return _splits([row["sequence"].strip() for row in rows], label, info, (1, 1))
    except (KeyError, ValueError, AttributeError) as error:
        raise damaged(path, error) from None


def _read_promoters(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    text, label = [], []
    for number, line in enumerate(decode(path).splitlines(), 1):
        mark, tab, bases = line.partition("\t")
        if not tab or mark not in ("0", "1"):
            raise UserError(
                "file-damaged", f"{path}, line {number}: expected 0 or 1, a tab and bases"
            )
        text.append(bases)
        label.append(int(mark))
    return _splits(text, label, info, (2, 1))


def _promoters(name: str, file: str, sha256: str, title: str, counts: str) -> DataSet:
    info = Info(
        name,
        title,
        "Umarov & Solovyev 2017 (EPDnew, RegulonDB)",
        "none stated; public sequences",
        "classification",
        f"{counts}. No official split: 70 % train, 10 % validation, 20 % test by seed, classes in proportion, "
        "equal sequences together",
        ("none", "promoter"),
        {"whole": True},
    )
    return DataSet(info, (File(file, (), (sha256,)),), _read_promoters, "promoters")


SETS = (
    DataSet(
        Info(
            "splice",
            "Primate splice junctions",
            "Noordewier, Towell & Shavlik 1991, UCI",
            "CC BY 4.0",
            "classification",
            "3,190 windows of 60 bases, 30 on each side of where a junction may be: EI (donor), IE (acceptor), N "
            "(none). No official split: a tenth by seed for test and one for validation, classes in proportion, "
            "equal sequences together; --folds 10 for the usual figure",
            ("EI", "IE", "N"),
            {"whole": True},
        ),
        (
            File(
                "splice.csv",
                (),
                ("f0d9602dc94a00189727ee345befaa35b946bcce5700d4d0b9929943d26c18f8",),
            ),
        ),
        _read_splice,
    ),
    _promoters(
        "promoters_tata",
        "arabidopsis_tata.tsv",
        "44e2b98ae2225b96d068b88339c6a9291ccd0400d54b85d7d5fff6dce22ac2dc",
        "Arabidopsis promoters with TATA",
        "1,497 promoters and 2,879 other sequences, 251 bases each",
    ),
    _promoters(
        "promoters_non_tata",
        "arabidopsis_non_tata.tsv",
        "62b37406d4b4bf739b04dfa40e4239fd2b7870899fc051b8f8c7486136166a5d",
        "Arabidopsis promoters without TATA",
        "5,905 promoters and 11,459 other sequences, 251 bases each",
    ),
    _promoters(
        "promoters_ecoli",
        "ecoli.tsv",
        "e276cd9b8cee5e124311e226f9e55a06b9e0c8a640b7062322d2057d6c6f2ca8",
        "E. coli promoters of sigma 70",
        "839 promoters and 3,000 other sequences, 81 bases each",
    ),
)
