"""How far apart two sets of pictures are, by the features some network sees in them, and which are copies."""

import numpy as np

from dl.core.column_checks import within
from dl.core.errors import UserError


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance between the normal distributions fitted to two sets of features.

    Called FID only where the features are those of the Inception network of Heusel et al. 2017; name
    the network yours come from, and report the distance between two sets of real pictures beside it,
    which is above 0 too.

    Args:
      a, b: features ``[n, features]``, with many more rows than features.

    Returns:
      NaN where either has less than two rows, or a feature is not finite: no normal fits those.

    Raises:
      UserError: ``a`` and ``b`` are not of the same features.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UserError(
            "shapes-differ",
            f"the features have shapes {list(a.shape)} and {list(b.shape)}: give [n, features] twice, by "
            "one network",
        )
    if min(len(a), len(b)) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    first, second = (np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1]) for x in (a, b))
    # tr sqrt(A B) from the symmetric sqrt(A) B sqrt(A), which has the same eigenvalues.
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    middle = np.linalg.eigvalsh(root @ second @ root)
    overlap = np.sqrt(np.maximum(middle, 0.0)).sum()
    means = np.square(a.mean(0) - b.mean(0)).sum()
    return float(means + np.trace(first) + np.trace(second) - 2.0 * overlap)


def class_coverage(classes: np.ndarray, count: int) -> dict[str, float]:
    """Whether generated examples, classified as ``classes [rows]``, cover all ``count`` classes: the
    number of ``classes`` with more than one in a hundred, and the share of the ``rarest_class``; both NaN
    without examples.

    Raises:
      UserError: a class beyond ``count``.
    """
    classes = np.asarray(classes)
    within("classes", classes, count)
    if not classes.size:
        return {"classes": float("nan"), "rarest_class": float("nan")}
    shares = np.bincount(classes, minlength=count) / len(classes)
    return {"classes": float((shares > 0.01).sum()), "rarest_class": float(shares.min())}


def nearest(
    some: np.ndarray, known: np.ndarray, *, rows: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of ``known`` to each of ``some``, by the root of the mean squared difference of their numbers:
    its place ``[n]``, and how far it is ``[n]``, in their unit.

    Args:
      some: ``[n, ...]``; known: ``[m, ...]``, such as the pictures that a generator learned from: where those it
        makes lie nearer to one of them than new real pictures do, it copies.
      rows: of ``some`` that are compared at once, for memory.
    """
    known = np.asarray(known, np.float32).reshape(len(known), -1)
    some = np.asarray(some, np.float32).reshape(len(some), known.shape[1])
    lengths, place = np.square(known).sum(1), np.zeros(len(some), np.int64)
    for start in range(0, len(some), rows):
        part = slice(start, start + rows)
        place[part] = (lengths - 2.0 * some[part] @ known.T).argmin(1)
    return place, np.sqrt(np.square(some - known[place]).mean(1))


def copying(fake: np.ndarray, real: np.ndarray, train: np.ndarray) -> dict[str, float]:
    """How far the :func:`nearest` training picture is on average: ``nearest`` of generated pictures,
    ``nearest_floor`` of real ones that are not in ``train``. The first far below the second is copying."""
    each = {"nearest": fake, "nearest_floor": real}
    return {name: float(nearest(some, train)[1].mean()) for name, some in each.items()}
