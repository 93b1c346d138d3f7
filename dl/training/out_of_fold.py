"""What runs of a cross-validation predict for rows that they have not trained on, all folds together."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.core.state import TrainState, path_name
from dl.data.batches.folded import FoldedEval
from dl.data.readers.files import check_unpacked, damaged
from dl.runs.files import read_plain, replace
from dl.training.evaluation import Evaluation
from dl.training.prediction import columns_of

NAME = "out_of_fold.npz"


def keep_predictions(evaluation: Evaluation, state: TrainState, lane: int, folder: Path) -> None:
    """Write what the selected state of a lane says of its test rows into the run's folder.

    By column: ``row`` in the data, ``fold``, the ``label`` where there is one, and what is predicted, in the
    experiment's own words.
    """
    import jax

    experiment = evaluation.own(lane)
    test = experiment.tests.get("test")
    if not isinstance(test, FoldedEval):
        return
    columns, rows = columns_of(test), test.alone()[1]
    answer = experiment.answer or (lambda own, rows: own(rows))
    said = answer(evaluation.predictor(state, lane), columns)
    leaves = jax.tree_util.tree_leaves_with_path(said)
    found = {path_name(path) or "prediction": np.asarray(leaf) for path, leaf in leaves}
    found = {n: x.astype(str) if x.dtype == object else x for n, x in found.items()}
    label = {"label": columns["label"]} if "label" in columns else {}
    of_fold = {"row": rows, "fold": np.full(len(rows), int(test.fold), np.int32)}
    _write(folder / NAME, of_fold | label | found)


def gather_predictions(place: Path, lanes: Sequence[str]) -> None:
    """One file in a sweep's folder of all that its lanes kept, with the number of the ``lane``."""
    parts: dict[str, list[np.ndarray]] = {}
    for number, name in enumerate(sorted(lanes)):
        file = place / "lanes" / name / NAME
        if file.exists():
            found = _read(file)
            for column, values in {"lane": np.full(len(found["row"]), number), **found}.items():
                parts.setdefault(column, []).append(values)
    if parts:
        rows = len(parts["row"])
        whole = {n: x for n, x in parts.items() if len(x) == rows}
        _write(place / NAME, {name: np.concatenate(values) for name, values in whole.items()})


def read_predictions(place: Path) -> dict[str, np.ndarray]:
    """The columns that :func:`gather_predictions` wrote."""
    if not (place / NAME).exists():
        raise UserError(
            "folds-none",
            f"{place} has no predictions out of folds: they are kept of a sweep with --folds 5 whose folds are "
            "one program, not one each",
        )
    return _read(place / NAME)


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        packed = read_plain(file)
        with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
            unfolded = sum(info.file_size for info in archive.zip.infolist())
            check_unpacked(file, unfolded, len(packed))
            found = dict(archive)
        if found["row"].ndim != 1:
            raise ValueError("it has no rows")
        return found
    except UserError:
        raise
    except Exception as error:  # NumPy raises all kinds over damaged headers
        raise damaged(file, error) from None


def _write(file: Path, columns: Mapping[str, Any]) -> None:
    packed = io.BytesIO()
    np.savez_compressed(packed, **columns)
    replace(file, packed.getvalue())
