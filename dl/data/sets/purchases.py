"""Who bought when: customers by their purchases, columns as of :mod:`dl.data.customers`."""

import dataclasses
import io

import numpy as np

from dl.data.customers import customers_at
from dl.data.readers.files import File, damaged, read
from dl.data.splits import DataSet, Info, Splits, hold_out, take

WEEKS = 39  # to look at, and then to foretell


def _read_cdnow(paths, info, validation, seed) -> Splits:
    (path,) = paths.values()
    try:
        customer, date, items, amount = np.loadtxt(io.BytesIO(read(path)), np.float64, ndmin=2).T
    except ValueError as error:
        raise damaged(path, error) from None
    whole = date.astype(int)
    text = [f"{d // 10000}-{d // 100 % 100:02d}-{d % 100:02d}" for d in whole.tolist()]
    day = np.array(text, "datetime64[D]").astype(int)
    cut = np.datetime64("1997-10-01").astype(int)
    rows, who = customers_at(customer.astype(int), day, items, amount, int(cut), 7 * WEEKS)
    test = who % 10 == 1
    kept, held = hold_out(
        int((~test).sum()),
        0.1 if validation is None else validation,
        seed,
        rows["later"][~test] > 0,
    )
    rest = np.flatnonzero(~test)
    details = {"weeks": float(WEEKS), "customers": tuple(map(str, who))}
    chosen = (rest[kept], rest[held], np.flatnonzero(test))
    train, validation, tested = (take(rows, some) for some in chosen)
    return Splits(train, validation, tested, dataclasses.replace(info, details=details))


SETS = (
    DataSet(
        Info(
            "cdnow",
            "CDNOW purchases",
            "Fader & Hardie 2001; copy in xiaobeicheng/User-consumption-data",
            "public for research and teaching",
            "regression",
            "69,659 purchases of the 23,570 who first bought at a music shop in the first quarter of 1997: what "
            "each bought until September, and how often in the 39 weeks after. Every tenth customer is test, of "
            "the others a tenth validation by seed",
        ),
        (
            File(
                "CDNOW_master.txt",
                (),
                ("9e97de752b7d284a940d57f6d7afbb8b1f8458a2a24fbe441e9a208698be279c",),
            ),
        ),
        _read_cdnow,
    ),
)
