"""How far held-out rows have moved from the training rows."""

import numpy as np

from dl.data.splits import Columns, Splits, take


def drift(splits: Splits, bins: int = 10) -> str:
    """How far each column of the held-out rows has moved from the training rows, as a text, most first.

    The population stability index over tenths of the training rows, or over categories, where missing cells are
    one more: below .1 little has changed, above .25 much.
    """
    columns = splits.info.details["columns"]
    names = [c.name for kind in ("numerical", "categorical") for c in columns if c.kind == kind]

    def codes(part: Columns) -> np.ndarray:
        numbers, train = part["numerical"], splits.train["numerical"]
        found = []
        for values, known in zip(numbers.T, train.T, strict=True):
            some = known[~np.isnan(known)]
            inner = np.linspace(0, 1, bins + 1)[1:-1]
            edges = np.unique(np.quantile(some, inner)) if some.size else np.zeros(0)
            found.append(np.where(np.isnan(values), bins, np.searchsorted(edges, values)))
        return np.concatenate([np.reshape(found, (-1, len(numbers))).T, part["categorical"]], 1)

    before, lines = codes(take(splits.train, slice(None))), []
    after = {
        name: codes(take(part, slice(None)))
        for name, part in splits.parts.items()
        if name != "train"
    }
    for place, name in enumerate(names):
        least = int(max(before[:, place].max(), *(x[:, place].max() for x in after.values()))) + 1
        share = [
            np.bincount(x[:, place].astype(int), minlength=least) + 0.5
            for x in (before, *after.values())
        ]
        share = [x / x.sum() for x in share]
        index = [float(((x - share[0]) * np.log(x / share[0])).sum()) for x in share[1:]]
        lines.append((*index, name))
    width = max(map(len, names))
    heads = f"{'drift from train':<{width}}" + "".join(f"{name:>12}" for name in after)
    rows = (
        f"{name:<{width}}" + "".join(f"{x:12.3f}" for x in own)
        for *own, name in sorted(lines, reverse=True)
    )
    return "\n".join([heads, *rows])
