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


def _timed(target: str, ignore: dict[str, str], cut, weigh=None):
    """A table whose rows are in order of time: ``(read whole, read in parts)``, these by ``cut(frame)``."""

    def whole(paths) -> tuple[Table, Frame]:
        (path,) = paths.values()
        try:
            frame = read_frame(path, encoding="utf-8", decimal=".", thousands="")
        except UserError as error:
            raise damaged(path, error) from None
        table = type_columns(frame, target, ignore=ignore)
        return (weigh(table) if weigh else table), frame

    def parts(paths, info, validation, seed):
        table, frame = whole(paths)
        train, held, test = (np.flatnonzero(part) for part in cut(frame))
        return split(table, info, train, held, test)

    return whole, parts


def _cells(frame: Frame, heading: str) -> np.ndarray:
    return np.array(frame.columns[heading].to_pylist(), str)


def _by_year(frame):
    test = _cells(frame, "Year").astype(int) == 1996
    held = ~test & (_cells(frame, "Year") == "1995") & np.isin(_cells(frame, "Month"), _LATE)
    return ~test & ~held, held, test


def _by_day(frame):
    time = _cells(frame, "Time").astype(float)
    return time < 64_800, (time >= 64_800) & (time < 86_400), time >= 86_400


def _in_order(frame):
    place = np.arange(frame.rows) / frame.rows
    return place < 0.7, (place >= 0.7) & (place < 0.8), place >= 0.8


def _of_the_full_file(table):
    """Each normal payment stands for as many as the sample was drawn from."""
    return dataclasses.replace(
        table, weight=np.where(table.label == 0, 284_315 / 1230, 1).astype(np.float32)
    )


_LATE = ("Sep", "Oct", "Nov", "Dec")
_VEHICLE = _timed(
    "FraudFound_P", {"PolicyNumber": "numbers the rows", "Year": "says the part"}, _by_year
)
_CARD = _timed("Class", {"Time": "orders the rows"}, _by_day, _of_the_full_file)
_BANK = _timed("y", {"duration": "known only after the call"}, _in_order)


def _read_landsat(paths, info, validation, seed):
    import pyarrow as pa

    headings = [f"{'abcdefghi'[pixel]}{band}" for pixel in range(9) for band in range(1, 5)]
    frames = [
        read_frame(paths[f"sat.{end}"], header=[*headings, "class"], separator=" ", decimal=".")
        for end in ("trn", "tst")
    ]
    both = pa.concat_tables([frame.columns for frame in frames])
    lines = np.concatenate([frame.lines for frame in frames])
    table = type_columns(
        dataclasses.replace(frames[0], name=info.name, columns=both, lines=lines),
        "class",
        task="classification",
    )
    rows = frames[0].rows
    count = 0.2 if validation is None else validation
    kept, held = hold_out(rows, count, seed, table.label[:rows])
    return split(table, info, kept, held, np.arange(rows, len(table.label)))


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

_TIMED = {
    "vehicle_claims": (
        _VEHICLE,
        File(
            "fraud_oracle.csv",
            (),
            ("2d73aceed29f29d47ea3c1a375872666b1b5b8d8275112acc1164126dbecff91",),
        ),
        Info(
            "vehicle_claims",
            "Vehicle insurance claims",
            "Angoss, Oracle; carclaims in Phua et al. 2004",
            "none stated",
            "classification",
            "15,420 claims of 1994 to 1996, 6.0 % fraudulent, 30 columns; test 1996, validation the last "
            "four months of 1995; --folds cuts all at random",
            ("genuine", "fraudulent"),
        ),
    ),
    "bank_marketing": (
        _BANK,
        File(
            "bank-additional-full.csv",
            (),
            ("233e260d5d1d506a2c10381da5b8c2f75f2c08d1b373ca7b825e39ebe1bd30df",),
        ),
        Info(
            "bank_marketing",
            "Bank marketing",
            "Moro, Cortez & Rita 2014, UCI",
            "CC BY 4.0",
            "classification",
            "41,188 calls in order of time, 11.3 % with a deposit, 19 columns: duration, known only after the "
            "call, is left out; the last fifth is test, the tenth before validation; --folds cuts all at random",
            ("no", "yes"),
        ),
    ),
    "ulb_card": (
        _CARD,
        File(
            "creditcard_sample.csv",
            (),
            ("d7bc31f6e213f78b87649ae43437ceb856bce200ec0a7d9b2ed5155f8065416b",),
        ),
        Info(
            "ulb_card",
            "Credit card fraud (sample)",
            "Dal Pozzolo et al. 2015, ULB",
            "DbCL 1.0",
            "classification",
            "492 frauds and 1,230 of 284,315 normal payments, each of which weighs 231.15; 29 columns; test the "
            "second day, validation the last six hours of the first",
            ("normal", "fraud"),
        ),
    ),
}
_LANDSAT = DataSet(
    Info(
        "statlog_landsat",
        "Statlog Landsat satellite",
        "Feng et al. 1993, UCI",
        "CC BY 4.0",
        "classification",
        "Soil and crops: 3 x 3 pixels of four spectral bands, the class is that of the middle one. The official "
        "2,000 test rows; a fifth of the 4,435 training rows held out by seed, classes in proportion",
        (
            *("red soil", "cotton crop", "grey soil", "damp grey soil", "vegetation stubble"),
            "very damp grey soil",
        ),
    ),
    (
        File(
            "sat.trn",
            (),
            ("69f7e7e02f901617bcc34b1413ce3222f12b3e016bf0f7219669da0681f68b30",),
        ),
        File(
            "sat.tst",
            (),
            ("4b9167b8a92baafafed7c8809aef86d0683a5e685c19d98d119fa6974f0f2479",),
        ),
    ),
    _read_landsat,
)

SETS = (
    *(DataSet(info, (file,), reading[1]) for reading, file, info in _TIMED.values()),
    _LANDSAT,
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
    if name in _TIMED:
        (whole, _), _, info = _TIMED[name]
        return whole(paths)[0], info
    headings, zeros, _, info = _FOLDED[name]
    return _table(paths, headings, zeros), info


FOLDED = (*_FOLDED, *_TIMED)
