"""Scores against independent computations in float64: any mask, any class that is nowhere, any split of
the set into batches."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises

from dl.baselines.threshold import best_threshold
from dl.core.metrics import compute, merge
from dl.models.tabular import TabularMLP
from dl.scores import tabular
from dl.scores.bleu import corpus_bleu
from dl.scores.detection import average_precision
from dl.scores.frechet import class_coverage, copying, frechet_distance, nearest
from dl.scores.segmentation import binary_iou, f_score
from dl.scores.speech import word_error
from dl.tasks.autoencoding import psnr
from dl.tasks.classification import classification
from dl.tasks.regression import nasa_score, regression
from dl.tasks.segmentation import segmentation
from dl.tasks.tabular import tabular_classification
from dl.tasks.tokens import token_metrics

KEY = jax.random.key(0)
SEEDS = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


class Told(nn.Module):
    """Gives its input back: the test says what is predicted."""

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        return x + self.param("p", nn.initializers.zeros, ())


def in_batches(evaluate, variables, columns, order, size=2):
    """Scores of a set in batches of ``size`` rows in this order, the last one padded with NaN or, where
    a column is whole numbers, with a row of the set."""
    parts = []
    for start in range(0, len(order), size):
        rows = np.resize(order[start : start + size], size)
        real = np.arange(size) < len(order[start : start + size])
        batch = {}
        for name, column in columns.items():
            part = column[rows].copy()
            if np.issubdtype(part.dtype, np.floating):
                part[~real] = np.nan
            batch[name] = part
        parts.append(evaluate(variables, batch | {"mask": real.astype(np.float32)}))
    return compute(functools.reduce(merge, parts))


# -- segmentation ------------------------------------------------------------------------------------

CLASSES, TOLERANCE = 3, 1
SEGMENTS = segmentation(Told(), CLASSES, prepare=lambda x: x, tolerance=TOLERANCE)
SEGMENT_VARIABLES = {"params": {"p": jnp.zeros(())}}
EVALUATE_SEGMENTS = jax.jit(SEGMENTS.evaluate)


def edges(label):
    """Pixels whose right or lower neighbour is of another class, both known."""
    found = np.zeros(label.shape, bool)
    for y, x in np.ndindex(*label.shape):
        for y2, x2 in ((y + 1, x), (y, x + 1)):
            if y2 < label.shape[0] and x2 < label.shape[1]:
                pair = label[y, x], label[y2, x2]
                found[y, x] |= min(pair) >= 0 and pair[0] != pair[1]
    return found


def found_within(these, those):
    """How many of ``these`` have one of ``those`` within the tolerance, and how many there are."""
    near = [
        any(max(abs(y - b), abs(x - a)) <= TOLERANCE for b, a in np.argwhere(those))
        for y, x in np.argwhere(these)
    ]
    return np.array([sum(near), len(near)], np.float64)


def segmentation_by_hand(logits, label):
    logits = logits.astype(np.float64)
    chance = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    guess = logits.argmax(-1)
    losses, ious, precision, recall = [], [], np.zeros(2), np.zeros(2)
    for p, g, t in zip(chance, guess, label, strict=True):
        real = t >= 0
        if not real.any():
            continue
        cross = -np.log(p[real, t[real]]).mean()
        dice = []
        for c in range(CLASSES):
            said, true = p[..., c][real], t[real] == c
            dice.append((2 * said[true].sum() + 1) / (said.sum() + true.sum() + 1))
        losses.append(cross + 1 - np.mean(dice))
        pairs = [(g[real] == c, t[real] == c) for c in range(CLASSES)]
        ious.append(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs if (a | b).any()]))
        said, true = edges(np.where(real, g, -1)), edges(t)
        precision += found_within(said, true)
        recall += found_within(true, said)
    real = label >= 0

    def ratio(a, b):
        return a / b if b else np.nan

    pairs = [(guess[real] == c, label[real] == c) for c in range(CLASSES)]
    overlaps = [(a & b).sum() / (a | b).sum() for a, b in pairs if (a | b).any()]
    return {
        "class_iou": np.mean(overlaps) if overlaps else np.nan,
        "loss": np.mean(losses) if losses else np.nan,
        "accuracy": ratio((guess == label)[real].sum(), real.sum()),
        "mean_iou": np.mean(ious) if ious else np.nan,
        "boundary_precision": ratio(*precision),
        "boundary_recall": ratio(*recall),
        **{f"iou_{c}": ratio((a & b).sum(), (a | b).sum()) for c, (a, b) in enumerate(pairs)},
    }


@quick
@given(SEEDS, st.permutations(range(3)), st.sampled_from([0.0, 0.3, 0.8, 1.0]))
def test_segmentation_with_any_void_and_any_split(seed, order, void):
    rng = np.random.default_rng(seed)
    label = np.repeat(rng.integers(0, rng.integers(1, CLASSES + 1), (3, 4, 3)), 2, 2)
    label[rng.random(label.shape) < void] = -1
    label[rng.integers(3)] = rng.integers(-1, CLASSES)  # a picture of one class, or void everywhere
    logits = rng.normal(size=(*label.shape, CLASSES)).astype(np.float32) * 3
    logits[..., rng.integers(CLASSES)] -= rng.choice([0, 50])  # a class that is never predicted
    columns = {"image": logits, "segments": label.astype(np.int32)}
    found = in_batches(EVALUATE_SEGMENTS, SEGMENT_VARIABLES, columns, order)
    assert found == pytest.approx(segmentation_by_hand(logits, label), rel=1e-5, nan_ok=True)


def test_a_pixel_predicted_as_nan_is_no_hit():
    label = np.zeros((1, 4, 6), np.int32)
    batch = {"image": np.full((1, 4, 6, CLASSES), np.nan, np.float32), "segments": label}
    found = compute(EVALUATE_SEGMENTS(SEGMENT_VARIABLES, batch))
    assert found["accuracy"] == found["iou_0"] == found["mean_iou"] == 0.0


def test_thresholds_leave_out_void_pixels_and_classes_that_are_nowhere():
    image, label = np.array([[10, 20, 200, 210, 0]]), np.array([[0, 0, 1, 1, -1]])
    threshold, iou = best_threshold(image, label)
    assert 20 <= threshold < 200
    assert iou == 1.0
    with raises("nothing-to-fit", "no pixel"):
        best_threshold(image, np.full_like(label, -1))
    with raises("shapes-differ"):
        binary_iou(np.ones(3, bool), np.ones(1, bool))
    none = np.zeros(4, bool)
    assert binary_iou(none, none) == pytest.approx((1.0, np.nan), nan_ok=True)


@pytest.mark.parametrize(
    ("precision", "recall", "expected"),
    [(0.5, 1.0, 2 / 3), (0.0, 0.0, 0.0), (np.nan, 0.0, 0.0), (np.nan, np.nan, np.nan)],
)
def test_f_score(precision, recall, expected):
    assert f_score(precision, recall) == pytest.approx(expected, nan_ok=True)


# -- detection ---------------------------------------------------------------------------------------


def iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = sides.prod() if (sides > 0).all() else 0.0
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both
    return both / union if union > 0 else 0.0


def average_precision_by_hand(found, boxes, label, number, least):
    """COCO's definition, by its words: detections in the order of their scores take the best true box
    that is still free; precision is made to fall, and read at 101 recalls. NaN without truth."""
    corners, score, said = found
    total = (label == number).sum()
    if not total:
        return np.nan
    free = label == number
    picks = sorted(np.argwhere(said == number).tolist(), key=lambda at: -score[tuple(at)])
    right = []
    for row, place in picks:
        overlaps = [(iou(corners[row, place], boxes[row, j]), j) for j in np.flatnonzero(free[row])]
        best = max(overlaps, default=(0.0, -1))
        right.append(best[0] >= least)
        if right[-1]:
            free[row, best[1]] = False
    right = np.cumsum(right)
    precision = right / np.arange(1, len(right) + 1)
    points = [
        max(precision[right / total >= recall - 1e-9], default=0.0)
        for recall in np.linspace(0, 1, 101)
    ]
    return float(np.mean(points))


@quick
@given(SEEDS)
def test_mean_average_precision_is_cocos(seed):
    rng = np.random.default_rng(seed)
    pictures, objects, said = rng.integers(1, 4), rng.integers(1, 4), rng.integers(0, 6)
    names = ("a", "b", "c")
    present = rng.integers(0, 4)  # 0: no truth at all

    def some(count):
        corner = rng.integers(0, 20, (pictures, count, 2))
        return np.concatenate([corner, corner + rng.integers(4, 12, corner.shape)], -1) * 1.0

    boxes, label = some(objects), rng.integers(-1, max(present, 1), (pictures, objects))
    if not present:
        label[:] = -1
    found = some(said)
    for row, place in np.ndindex(pictures, said):  # most near a true box
        if rng.random() < 0.7:
            near = boxes[row, rng.integers(objects)]
            found[row, place] = near + rng.integers(-2, 3) * np.array([1, 1, 1, 0])
    score = rng.permutation(pictures * said).reshape(pictures, said) / 100.0
    number = rng.integers(-1, 3, (pictures, said))
    scores = average_precision((found, score, number), boxes, label, names)
    levels = [0.5 + 0.05 * step for step in range(10)]
    hand = np.array(
        [
            [
                average_precision_by_hand((found, score, number), boxes, label, c, level - 1e-9)
                for c in range(3)
            ]
            for level in levels
        ]
    )
    known = ~np.isnan(hand[0])
    expected = {
        "map_50": hand[0][known].mean() if known.any() else np.nan,
        "map": hand[:, known].mean() if known.any() else np.nan,
        **{f"ap_50_{name}": hand[0][c] for c, name in enumerate(names)},
    }
    assert scores == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["box", "corner", "score"])
def test_a_detection_that_is_not_finite_is_a_false_alarm(odd, where):
    boxes, label = np.array([[[10.0, 10, 20, 20]]]), np.array([[0]])
    found, score = boxes.copy(), np.array([[0.9]])
    if where == "score":
        score[:] = odd
    else:
        found[..., slice(None) if where == "box" else 3] = odd
    scores = average_precision((found, score, label), boxes, label, ("a", "b"))
    assert scores == pytest.approx(
        {"map_50": 0.0, "map": 0.0, "ap_50_a": 0.0, "ap_50_b": np.nan}, nan_ok=True
    )


def test_equal_scores_are_taken_in_order():
    boxes, label = np.array([[[10.0, 10, 20, 20]]]), np.array([[0]])
    found = np.array([[[50.0, 50, 60, 60], [10, 10, 20, 20]]])
    tied = np.full((1, 2), 0.5), np.zeros((1, 2), int)
    first = average_precision((found, *tied), boxes, label, ("a",))["map_50"]
    second = average_precision((found[:, ::-1], *tied), boxes, label, ("a",))["map_50"]
    assert (first, second) == pytest.approx((0.5, 1.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": np.ones((1, 3))}, ("shapes-differ", "the found scores")),
        ({"found": np.zeros((1, 2, 3))}, ("boxes-shape", "the found boxes")),
        ({"label": np.array([[0], [0]]), "boxes": np.ones((2, 1, 4))}, ("counts-differ", "1 pictures", "2")),
        ({"label": np.array([[2]])}, ("class-out-of-range", "'true label' holds 2 to 2")),
        ({"number": np.array([[0, 7]])}, ("class-out-of-range", "'found label' holds 0 to 7")),
        ({"boxes": np.array([[[1, 1, np.nan, 4.0]]])}, ("box-corners", "picture 0")),
        ({"boxes": np.array([[[5, 1, 4.0, 4.0]]])}, ("box-corners", "picture 0")),
    ],
)  # fmt: skip
def test_sides_of_detection_that_do_not_fit_are_refused(change, message):
    given = {
        "found": np.zeros((1, 2, 4)),
        "score": np.ones((1, 2)),
        "number": np.array([[0, 1]]),
        "boxes": np.array([[[1.0, 1, 4, 4]]]),
        "label": np.array([[0]]),
    } | change
    said = given["found"], given["score"], given["number"]
    with raises(*message):
        average_precision(said, given["boxes"], given["label"], ("a", "b"))


# -- rows --------------------------------------------------------------------------------------------


@quick
@given(SEEDS, st.integers(0, 30), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_binary_scores_by_their_definitions(seed, rows, share):
    rng = np.random.default_rng(seed)
    label = (rng.random(rows) < share).astype(int)
    chance = rng.integers(0, 11, rows) / 10  # ties, and edges of the bins
    pairs = list(itertools.product(chance[label == 1], chance[label == 0]))
    auc = np.mean([(p > n) + 0.5 * (p == n) for p, n in pairs]) if pairs else np.nan
    precision, before = 0.0, 0.0
    for level in sorted(set(chance), reverse=True):
        said = chance >= level
        recall = label[said].sum() / max(label.sum(), 1)
        precision += (recall - before) * label[said].mean()
        before = recall
    bins = np.ceil(chance * 10 - 1e-9).clip(1, 10)  # ((k - 1) / 10, k / 10]
    error = sum(
        abs(chance[bins == b].sum() - label[bins == b].sum()) for b in np.unique(bins)
    ) / max(rows, 1)
    found = tabular.binary_scores(label, chance)
    assert found == pytest.approx(
        {
            "auc": auc,
            "average_precision": precision if label.any() else np.nan,
            "ece": error if rows else np.nan,
        },
        nan_ok=True,
    )


def test_reliability_is_scikit_learns():
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(0)
    chance = rng.integers(0, 101, 500) / 100
    label = (rng.random(500) < chance).astype(int)
    came, said = calibration_curve(label, chance, n_bins=20)
    found = tabular.reliability(chance, label, 20)
    used = found[2] > 0
    np.testing.assert_allclose((found[0][used], found[1][used]), (said, came))


def test_scores_of_no_rows_and_of_rows_that_do_not_fit():
    nothing = np.zeros(0, int)
    assert np.isnan(list(tabular.scores(nothing, np.zeros((0, 2))).values())).all()
    assert np.isnan(tabular.scores(nothing, np.zeros(0))["mse"])
    assert tabular.scores(np.array([0, 1]), np.full((2, 3), np.nan)) == {"accuracy": 0.0}
    assert np.isnan(tabular.binary_scores(np.array([0, 1]), np.array([np.nan, 0.5]))["auc"])
    assert np.isnan(tabular.fit_temperature(np.zeros((0, 2)), nothing))
    for score, sides in (
        (tabular.scores, (np.zeros(3, int), np.zeros((2, 2)))),
        (tabular.scores, (np.zeros((3, 1)), np.zeros(3))),  # NumPy would pair all with all
        (tabular.binary_scores, (np.zeros(1, int), np.zeros(2))),
        (tabular.reliability, (np.zeros(1), np.zeros(2))),
        (tabular.fit_temperature, (np.zeros((2, 2)), np.zeros(3, int))),
    ):
        with raises("shapes-differ"):
            score(*sides)
    with raises("not-probabilities", "not logits"):
        tabular.binary_scores(np.array([0, 1]), np.array([-2.0, 3.0]))
    with raises("class-out-of-range", "'label' holds 0 to 2"):
        tabular.binary_scores(np.array([0, 2]), np.array([0.1, 0.2]))
    for score in (tabular.scores, lambda label, said: tabular.fit_temperature(said, label)):
        with raises("class-out-of-range", "'label' holds 0 to 3", "0 to 2"):
            score(np.array([0, 3]), np.full((2, 3), 1 / 3))


SORTED = classification(Told(), inputs="x", prepare=lambda x: x)
EVALUATE_SORTED = jax.jit(SORTED.evaluate)


@quick
@given(SEEDS, st.permutations(range(5)))
def test_classification_in_any_split(seed, order):
    from sklearn.metrics import accuracy_score, log_loss

    rng = np.random.default_rng(seed)
    logits = rng.integers(-2, 3, (5, 3)).astype(np.float32)  # ties: the first class is taken
    label = rng.integers(0, 3, 5).astype(np.int32)
    columns = {"x": logits, "label": label}
    found = in_batches(EVALUATE_SORTED, SEGMENT_VARIABLES, columns, order)
    chance = np.exp(logits.astype(np.float64))
    chance /= chance.sum(1, keepdims=True)
    assert found["accuracy"] == pytest.approx(accuracy_score(label, logits.argmax(1)))
    assert found["loss"] == pytest.approx(log_loss(label, chance, labels=range(3)), rel=1e-5)


@quick
@given(SEEDS, st.sampled_from([0.0, 0.5, 1.0]))
def test_tokens_by_any_weights(seed, share):
    rng = np.random.default_rng(seed)
    logits = rng.integers(-2, 3, (2, 4, 5)).astype(np.float32)
    targets, weight = rng.integers(0, 5, (2, 4)), (rng.random((2, 4)) < share) * 2.0
    found = compute(token_metrics(jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(weight)))
    chance = np.exp(logits.astype(np.float64))
    chance /= chance.sum(-1, keepdims=True)
    nats = -np.log(np.take_along_axis(chance, targets[..., None], -1)[..., 0])
    known = weight > 0
    expected = {
        "loss": nats[known].mean() if known.any() else np.nan,
        "accuracy": (logits.argmax(-1) == targets)[known].mean() if known.any() else np.nan,
    }
    assert found == pytest.approx(expected, rel=1e-5, nan_ok=True)


NUMBER = regression(Told(), inputs="x", scores={"nasa": nasa_score})
EVALUATE_NUMBER = jax.jit(NUMBER.evaluate)


@quick
@given(SEEDS, st.permutations(range(5)))
def test_regression_and_the_nasa_score_in_any_split(seed, order):
    rng = np.random.default_rng(seed)
    said, truth = (rng.uniform(0, 125, 5).astype(np.float32) for _ in range(2))
    columns = {"x": said, "label": truth}
    found = in_batches(EVALUATE_NUMBER, SEGMENT_VARIABLES, columns, order)
    d = said.astype(np.float64) - truth
    nasa = np.where(d < 0, np.exp(-d / 13) - 1, np.exp(d / 10) - 1)
    expected = {"mse": (d**2).mean(), "mae": np.abs(d).mean(), "nasa": nasa.mean()}
    assert found == pytest.approx(expected | {"loss": (d**2).mean()}, rel=1e-4)


def test_scores_of_padding_alone_are_nan_and_its_gradient_is_0():
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(2, 3)).astype(np.float32)
    rows = {"numerical": numbers, "missing": numbers * 0, "categorical": np.zeros((2, 1), np.int32)}
    table = tabular_classification(TabularMLP(2, (3,), widths=(4,)))
    picture = {"image": np.ones((2, 4, 6, 3), np.float32)}
    for task, batch in (
        (SORTED, {"x": numbers, "label": np.zeros(2, np.int32)}),
        (NUMBER, {"x": numbers[:, 0], "label": numbers[:, 1]}),
        (table, rows | {"label": np.zeros(2, np.int32)}),
        (SEGMENTS, picture | {"segments": np.zeros((2, 4, 6), np.int32)}),
        (SEGMENTS, picture | {"segments": np.full((2, 4, 6), -1), "mask": np.ones(2)}),
    ):
        padding = {"mask": np.zeros(2, np.float32)} | batch

        @jax.jit
        def look(task=task, padding=padding):
            variables = task.init(KEY, padding)
            slope = jax.value_and_grad(lambda p: task.loss({"params": p}, padding, KEY)[0])
            return task.evaluate(variables, padding), slope(variables["params"])

        metrics, (loss, slopes) = look()
        assert np.isnan(list(compute(metrics).values())).all()
        assert loss == 0.0
        for slope in jax.tree.leaves(slopes):
            np.testing.assert_array_equal(slope, 0.0)


# -- text and speech ---------------------------------------------------------------------------------


def test_bleu_of_edges():
    sacrebleu = pytest.importorskip("sacrebleu")
    truth = ["a dog runs over the lawn", "two men sit on a bench"]
    said = ["a dog runs on the lawn", ""]
    expected = sacrebleu.corpus_bleu(said, [truth]).score
    assert corpus_bleu(said, truth) == pytest.approx(expected)
    assert corpus_bleu(["", ""], truth) == 0.0
    assert np.isnan(corpus_bleu([], []))
    assert np.isnan(corpus_bleu(["words"], [" "]))
    with raises("counts-differ", "2 translations", "1 references"):
        corpus_bleu(said, truth[:1])


def test_word_error_of_edges():
    pytest.importorskip("jiwer")
    assert word_error(["a b", ""], ["a", "x"]) == pytest.approx((1 + 1) / 2)
    assert word_error(["a b c d"], [""]) == 1.0
    assert np.isnan(word_error([], []))
    assert np.isnan(word_error([""], ["a b"]))
    with raises("counts-differ", "1 recognised", "2 true strings"):
        word_error(["a", "b"], ["a"])


# -- pictures ----------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_frechet_distance_is_that_of_the_square_root(seed, features):
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(seed)
    a, b = (rng.normal(size=(40, features)) @ rng.normal(size=(features,) * 2) for _ in range(2))
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    root = np.real(sqrtm(first @ second))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_nearest_rows_are_those_that_all_distances_name():
    draw = np.random.default_rng(0)
    known, some = (draw.integers(0, 256, (n, 3, 4)).astype(np.uint8) for n in (30, 7))
    apart = np.square(np.float64(some)[:, None] - known).mean((2, 3)) ** 0.5
    place, far = nearest(some, known, rows=3)
    np.testing.assert_array_equal(place, apart.argmin(1))
    np.testing.assert_allclose(far, apart.min(1), rtol=1e-6)
    found = copying(known[:5], some, known)
    assert found == {"nearest": 0.0, "nearest_floor": pytest.approx(apart.min(1).mean())}


def test_frechet_distance_and_coverage_of_nothing():
    a = np.random.default_rng(0).normal(size=(9, 2))
    assert np.isnan(frechet_distance(a, a[:1]))
    assert np.isnan(frechet_distance(a, a[:0]))
    assert np.isnan(frechet_distance(a, np.where(a > 1, np.nan, a)))
    with raises("shapes-differ", "[9, 2] and [9, 1]"):
        frechet_distance(a, a[:, :1])
    assert np.isnan(list(class_coverage(np.zeros(0, int), 3).values())).all()
    assert class_coverage(np.array([0, 0, 1]), 3) == {"classes": 2.0, "rarest_class": 0.0}
    with raises("class-out-of-range", "holds 0 to 3"):
        class_coverage(np.array([0, 3]), 3)


def test_psnr():
    error = np.array([1e-3, 0.25, 1.0, 0.0, np.nan])
    found = psnr(jnp.asarray(error), peak=2.0)
    np.testing.assert_allclose(found[:3], 20 * np.log10(2 / np.sqrt(error[:3])), rtol=1e-5)
    assert np.isfinite(found[3])  # a perfect picture has the most there is, not infinity
    assert np.isnan(found[4])
