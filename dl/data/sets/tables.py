"""Published tables: ``numerical``, ``categorical`` and ``label`` columns (see :mod:`dl.data.tables`)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import File, damaged
from dl.data.readers.frames import Frame, read_frame
from dl.data.splits import DataSet, Info, hold_out
from dl.data.tables import Table, cross_validation, split, type_columns

_ADULT = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation"),
    *("relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week"),
    *("native-country", "income"),
)
_GERMAN = (
    *("checking", "months", "history", "purpose", "amount", "savings", "employment"),
    *("installment-rate", "personal-status", "debtors", "residence", "property", "age"),
    *("other-plans", "housing", "credits", "job", "dependents", "telephone", "foreign", "risk"),
)
_MAMMOGRAPHY = ("area", "grey-level", "gradient", "noise", "contrast", "shape", "calcification")
_PIMA = (
    *("pregnancies", "glucose", "blood-pressure", "skin-thickness", "insulin", "bmi"),
    *("pedigree", "age", "diabetes"),
)
# A body has no glucose, pressure, skin fold, insulin or mass of 0: there the file means "unknown".
_PIMA_ZERO_IS_MISSING = ("glucose", "blood-pressure", "skin-thickness", "insulin", "bmi")


def _frame(path: Path, headings: Sequence[str], quote: str = '"') -> Frame:
    marks: dict[str, Any] = {"separator": ",", "decimal": ".", "thousands": "", "quote": quote}
    try:
        return read_frame(path, header=headings, encoding="utf-8", **marks)
    except UserError as error:
        raise damaged(path, error) from None


def _read_adult(paths, info, validation, seed):
    import pyarrow as pa
    import pyarrow.compute as pc

    train, test = (_frame(paths[f"adult-{part}.csv"], _ADULT) for part in ("train", "test"))
    columns = pa.concat_tables([train.columns, test.columns])
    income = pc.utf8_rtrim(columns["income"], ".")  # the test file ends its lines in a point
    columns = columns.set_column(columns.num_columns - 1, "income", income)
    both = dataclasses.replace(
        train, name="adult", columns=columns, lines=np.concatenate([train.lines, test.lines])
    )
    table = type_columns(both, "income")
    count = 6513 if validation is None else validation
    kept, held = hold_out(train.rows, count, seed, table.label[: train.rows])
    return split(table, info, kept, held, np.arange(train.rows, both.rows))


def _folded(headings: Sequence[str], zero_is_missing: Sequence[str] = ()):
    def read_set(paths, info, validation, seed):
        table = _table(paths, headings, zero_is_missing)
        return cross_validation(table, info, 0, validation=validation, seed=seed)

    return read_set


def _table(paths, headings, zero_is_missing) -> Table:
    (path,) = paths.values()
    frame = _frame(path, headings, quote="'")  # mammography.csv writes its classes '-1' and '1'
    table = type_columns(frame, headings[-1])
    values, columns = table.numerical.copy(), list(table.columns)
    place = 0
    for position, column in enumerate(columns):
        if column.name in zero_is_missing:
            zero = values[:, place] == 0
            values[zero, place] = np.nan
            columns[position] = dataclasses.replace(column, missing=int(zero.sum()))
        place += column.kind == "numerical"
    return dataclasses.replace(table, columns=tuple(columns), numerical=values)


_PLACE = "https://raw.githubusercontent.com/jbrownlee/Datasets/master/"
_FIVE_FOLDS = (
    "No official split: five stratified folds by seed; load gives the first as test and a fifth of "
    "the rest as validation, dl.data.load_table the whole for dl.data.tables.cross_validation"
)

_FOLDED = {
    "german": (
        _GERMAN,
        (),
        File(
            "german.csv",
            (_PLACE + "german.csv",),
            ("ec12a88b9fc14d74ba646ea0410cf7ff4533bec2eb61652f8ad76796bbfec017",),
            79793,
        ),
        Info(
            "german",
            "German credit",
            "Hofmann 1994, UCI; copy in jbrownlee/Datasets",
            "CC BY 4.0",
            "classification",
            f"1,000 loans, 20 columns; class 1 is a bad risk. {_FIVE_FOLDS}",
            ("good", "bad"),
        ),
    ),
    "mammography": (
        _MAMMOGRAPHY,
        (),
        File(
            "mammography.csv",
            (_PLACE + "mammography.csv",),
            ("7d3dea3f075f30bbdbb8980e7725684059b4fe3d0f850fadd0f635f6993d8730",),
            827904,
        ),
        Info(
            "mammography",
            "Mammography",
            "Woods et al. 1993; copy in jbrownlee/Datasets",
            "public",
            "classification",
            f"11,183 candidate spots, 6 columns, 2.3 % calcifications. {_FIVE_FOLDS}",
            ("normal", "calcification"),
        ),
    ),
    "pima": (
        _PIMA,
        _PIMA_ZERO_IS_MISSING,
        File(
            "pima-indians-diabetes.data.csv",
            (_PLACE + "pima-indians-diabetes.data.csv",),
            ("6bfe5d0f379d17a0e0819b996407e3c09bf80febd4287f2ed212190dfff154af",),
            23278,
        ),
        Info(
            "pima",
            "Pima Indians diabetes",
            "Smith et al. 1988; copy in jbrownlee/Datasets",
            "CC0",
            "classification",
            "768 women, 8 columns; zeros that stand for an unknown measurement are read as missing. "
            + _FIVE_FOLDS,
            ("no diabetes", "diabetes"),
        ),
    ),
}

SETS = (
    DataSet(
        Info(
            "adult",
            "Adult (census income)",
            "Kohavi 1996, UCI; copy in jbrownlee/Datasets",
            "CC BY 4.0",
            "classification",
            "14 columns of a person, missing cells included; class 1 earns over 50,000 dollars. The "
            "official 16,281 test rows; 6,513 of the 32,561 training rows held out by seed, classes "
            "in proportion",
            ("<=50K", ">50K"),
        ),
        (
            File(
                "adult-train.csv",
                (_PLACE + "adult-train.csv",),
                ("5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",),
            ),
            File(
                "adult-test.csv",
                (_PLACE + "adult-test.csv",),
                ("72567b94f5c1a6f8501377dd80f93892c3848ff071cf91ba47e00b0785a28074",),
            ),
        ),
        _read_adult,
    ),
    *(
        DataSet(info, (file,), _folded(headings, zeros), "tabular")
        for headings, zeros, file, info in _FOLDED.values()
    ),
)


def read_named(name: str, paths: dict[str, Path]) -> tuple[Table, Info]:
    """The whole of a table without an official split, and what it is."""
    headings, zeros, _, info = _FOLDED[name]
    return _table(paths, headings, zeros), info


FOLDED = tuple(_FOLDED)
