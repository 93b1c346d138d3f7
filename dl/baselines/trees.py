"""Gradient-boosted trees beside a network: what any network for tables has to be compared with."""

import sys
from typing import Any, NamedTuple

import numpy as np

from dl.baselines.majority import majority, on_held
from dl.data.batches.stored import StoredColumns
from dl.data.splits import Columns, Splits, pieces, row_count, some_rows
from dl.scores.tabular import judged

SAMPLE = 200_000  # training rows, where they do not fit into memory

LEAF = 20  # training rows at least of a leaf: a feature that fewer rows have cannot part them

# (learning rate, leaves a tree, L2 on leaves): fast and slow, large and small.
_SETTINGS = ((0.1, 31, 0.0), (0.05, 15, 1.0), (0.03, 8, 1.0))


class Trees(NamedTuple):
    """Boosted trees: scikit-learn's ``model``; of how many ``classes``, some of which its training rows may not
    have had, 0 for regression; and which features ``[features]`` it was told, the others being 0 to it."""

    model: Any
    classes: int
    told: np.ndarray


def boosted_trees(train: Columns, validation: Columns, classes: int) -> Trees:
    """scikit-learn's histogram gradient boosting, fitted to ``train`` and chosen on ``validation``.

    Of a few settings the one with the least validation loss is kept; the number of trees is stopped early on a
    tenth of the training rows, or is 100 where these are too few for their classes. Of a part on disk a sample
    of the training rows is taken, which is said.

    Args:
      train, validation: ``numerical [rows, numbers]`` with NaN where missing, ``categorical [rows,
        categories]`` int and ``label [rows]``; no scaling is needed.
      classes: number of classes; 0 for regression.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.metrics import log_loss, mean_squared_error

    rows = row_count(train)
    if isinstance(train, StoredColumns) and rows > SAMPLE:
        train = some_rows(train, SAMPLE)
        note = f"trees: fitted to {SAMPLE:,} of {rows:,} training rows, as these stay on disk"
        print(note, file=sys.stderr)
    numbers = train["numerical"].shape[1]
    codes = train["categorical"]
    # It takes at most 255 codes for a category; a column of more is taken as ordered.
    categorical = [numbers + c for c in range(codes.shape[1]) if codes[:, c].max() < 255]
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    # A tenth is set aside class by class, which needs two rows of each and a row for each in that tenth.
    seen = np.unique(train["label"], return_counts=True)[1] if classes else np.array([rows])
    stop = seen.min() > 1 and row_count(train) >= 10 * len(seen)
    features, weight = matrix(train), train.get("weight")
    has = ~np.isnan(features)
    if weight is not None:
        has &= (weight > 0)[:, None]
    told = has.sum(0) >= LEAF  # scikit-learn fails where no row has a feature
    features = np.where(told, features, 0)
    best = None
    for rate, leaves, l2 in _SETTINGS:
        model = kind(
            learning_rate=rate,
            max_leaf_nodes=leaves,
            l2_regularization=l2,
            max_iter=500 if stop else 100,
            early_stopping=bool(stop),
            n_iter_no_change=30,
            min_samples_leaf=LEAF,
            categorical_features=categorical or None,
            random_state=0,
        ).fit(features, train["label"], weight)
        said = tree_predictions(Trees(model, classes, told), validation)
        truth = validation["label"]
        if classes:
            loss = log_loss(
                truth, said, labels=range(classes), sample_weight=validation.get("weight")
            )
        else:
            loss = mean_squared_error(truth, said)
        if best is None or loss < best[0]:
            best = (loss, model)
    assert best is not None
    return Trees(best[1], classes, told)


def matrix(columns: Columns) -> np.ndarray:
    """All features side by side, ``[rows, features]``, as trees take them."""
    return np.concatenate([columns["numerical"], columns["categorical"]], axis=1)


def predicted_by_trees(splits: Splits) -> dict[str, np.ndarray]:
    """What :func:`boosted_trees` say of each part that ``splits`` has, by its name."""
    trees = boosted_trees(splits.train, splits.validation, len(splits.info.classes))
    return {name: tree_predictions(trees, part) for name, part in splits.parts.items()}


def tree_predictions(trees: Trees, columns: Columns) -> np.ndarray:
    """Probabilities ``[rows, classes]``, or numbers ``[rows]``, that :func:`boosted_trees` give."""

    def say(features: np.ndarray) -> np.ndarray:
        if not trees.classes:
            return trees.model.predict(features)
        said = np.zeros((len(features), trees.classes))
        said[:, trees.model.classes_] = trees.model.predict_proba(features)
        return said

    some = SAMPLE if isinstance(columns, StoredColumns) else row_count(columns)
    return np.concatenate(
        [say(np.where(trees.told, matrix(piece), 0)) for piece in pieces(columns, some)]
    )


def tree_scores(splits: Splits, said: dict[str, np.ndarray], **asked: Any) -> dict[str, float]:
    """What :func:`tree_predictions` ``said`` by set are worth on those held out, such as ``test/accuracy``.

    ``asked``: as of :func:`dl.scores.tabular.judged`.
    """
    if splits.info.classes:
        said = {name: np.log(np.maximum(chances, 1e-12)) for name, chances in said.items()}
    held = splits.validation, said["validation"]
    return on_held(splits, lambda part, name: judged(part, said[name], *held, **asked))


def tree_rivals(
    splits: Splits, said: dict[str, np.ndarray] | None, **asked: Any
) -> dict[str, dict[str, float]]:
    """:func:`tree_scores` as ``trees``, where these ``said`` something, and of classes the ``majority``."""
    found = {"majority": majority(splits)} if splits.info.classes else {}
    return found if said is None else {**found, "trees": tree_scores(splits, said, **asked)}
