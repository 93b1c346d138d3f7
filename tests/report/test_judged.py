"""Rows of a classifier, one by one, against plain NumPy."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
from scipy.special import softmax

from dl.data.batches import eval_batches
from dl.report.examples import _slices, judged
from dl.report.inspection import Inspection
from dl.report.judged import farthest, judge
from dl.scores.tabular import binary_scores
from dl.tasks.classification import classification
from dl.tasks.forecasting import forecasting
from dl.tasks.regression import regression
from dl.tasks.supervised import supervised
from dl.tasks.tabular import tabular_classification


class Given(nn.Module):
    def __call__(self, x, *, train=False):
        return x


class Linear(nn.Module):
    """Sees the upper left corner alone."""

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(3, name="head")(x[:, :2, :2].reshape(len(x), -1))


@pytest.fixture(scope="module")
def pictures():
    draw = np.random.default_rng(0)
    columns = {
        "image": draw.integers(0, 256, (50, 16, 16, 1), np.uint8),
        "label": draw.integers(0, 3, 50).astype(np.int32),
    }
    task = classification(Linear())
    variables = task.init(jax.random.key(0), eval_batches(columns, 16)[0])
    return task, variables, columns, judge(task, variables, eval_batches(columns, 16), shown=4)


def test_worst_unsure_bins_and_classes_are_those_of_all_rows(pictures):
    task, variables, columns, found = pictures
    chances = softmax(np.asarray(task.predict(variables, columns), np.float64), -1)
    label, best = columns["label"], chances.argmax(-1)
    own, order = chances[np.arange(50), label], np.sort(chances, -1)
    assert [one.row for one in found.worst] == list(np.argsort(own)[:4])
    assert [one.row for one in found.unsure] == list(np.argsort(order[:, -1] - order[:, -2])[:4])
    assert found.bins[:, 0].sum() == 50
    for place in range(10):
        held = (order[:, -1] * 10).astype(int).clip(max=9) == place
        np.testing.assert_allclose(
            found.bins[place],
            [held.sum(), order[held, -1].sum(), (best == label)[held].sum()],
            rtol=1e-5,
        )
    rows, recall, precision = found.by_class().T
    for one in range(3):
        assert rows[one] == (label == one).sum()
        assert recall[one] == pytest.approx((best[label == one] == one).mean())
        assert precision[one] == pytest.approx((label[best == one] == one).mean())
    for one in found.worst:
        np.testing.assert_array_equal(one.columns["image"], columns["image"][one.row])
        assert (one.truth, one.said) == (label[one.row], best[one.row])


def test_of_two_classes_calibration_is_that_of_the_second_as_in_the_metric():
    label = (np.random.default_rng(0).random(40) < 0.4).astype(np.int32)
    logits = np.random.default_rng(1).normal(size=(40, 2)).astype(np.float32)
    task = supervised(
        Given(),
        "logits",
        lambda said, batch, train: classification(Given()).score(said, batch, train),
    )
    found = judge(task, {"params": {}}, eval_batches({"logits": logits, "label": label}, 16))
    chance = softmax(logits.astype(np.float64), -1)[:, 1]
    place = np.ceil(chance * 10).clip(1, 10)
    gap = [abs((chance - label)[place == one].sum()) for one in range(1, 11)]
    assert found.calibration_error == pytest.approx(sum(gap) / 40)
    assert found.calibration_error == pytest.approx(binary_scores(label, chance)["ece"])
    inspected = Inspection(None, {}, {"test": found}, ("well", "ill"), {}, {})
    assert "Chance of ill and share that are" in judged(inspected)


def weighted(scale=1.0):
    draw = np.random.default_rng(2)
    label = (draw.random(40) < 0.4).astype(np.int32)
    columns = {
        "numerical": draw.normal(size=(40, 2)).astype(np.float32),
        "label": label,
        "weight": scale * draw.uniform(0.1, 5, 40).astype(np.float32),
    }
    task = tabular_classification(Given(), columns=("numerical",))
    named = {"numerical": ("left", "right")}
    return columns, judge(task, {"params": {}}, eval_batches(columns, 16), named)


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_rows_count_by_their_weight_where_the_metrics_count_them_so(scale):
    columns, found = weighted(scale)
    said, label = columns["numerical"].astype(np.float64), columns["label"]
    weight, best = columns["weight"].astype(np.float64), said.argmax(-1)
    for truth in range(2):
        for one in range(2):
            here = (label == truth) & (best == one)
            assert found.counts[truth, one] == pytest.approx(weight[here].sum())
    chance = softmax(said, -1)
    ece = binary_scores(label, chance[:, 1], weight=weight)["ece"]
    assert found.calibration_error == pytest.approx(ece)
    own = chance[np.arange(40), label]
    assert [one.row for one in found.worst] == list(np.argsort(own)[:6])
    draw, grown = np.random.default_rng(0), {}
    for place, name in enumerate(("left", "right")):
        losses = []
        for _ in range(3):
            changed = said.copy()
            changed[:, place] = said[draw.permutation(40), place]
            other = softmax(changed, -1)[np.arange(40), label]
            losses.append(np.average(np.log(own) - np.log(other), weights=weight))
        grown[name] = np.mean(losses)
    assert {n: mean for n, (mean, _) in found.importance.items()} == pytest.approx(grown, abs=1e-6)
    page = judged(Inspection(None, {}, {"test": found}, ("well", "ill"), {}, {}))
    assert f"{weight[label == 1].sum():.4g}" in page


def test_a_column_called_weight_that_no_metric_counts_by_is_none(pictures):
    task, variables, columns, plain = pictures
    more = {**columns, "weight": np.linspace(0.1, 3, 50, dtype=np.float32)}
    found = judge(task, variables, eval_batches(more, 16), shown=4)
    np.testing.assert_array_equal(found.counts, plain.counts)


def test_a_picture_hangs_on_what_the_network_sees(pictures):
    *_, found = pictures
    for one in [*found.worst, *found.unsure]:
        assert one.hangs.shape == (8, 8)
        assert not one.hangs[1:, 1:].any()
        assert np.abs(one.hangs[0, 0]) > 0


class Rows(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        kernel = np.array([[3.0, -3.0], [0.5, -0.5], [0.0, 0.0]], np.float32)
        return x @ self.param("kernel", lambda _: kernel)


class Difference(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        kernel = self.param("kernel", nn.initializers.zeros, (3, 2))
        return x @ (kernel[:, 0] - kernel[:, 1])


def test_features_count_by_what_is_lost_when_they_are_shuffled():
    draw = np.random.default_rng(1)
    x = draw.normal(size=(700, 3)).astype(np.float32)
    columns = {"x": x, "label": (3 * x[:, 0] + 0.5 * x[:, 1] < 0).astype(np.int32)}
    labelled = classification(Rows(), inputs="x", prepare=lambda x: x)
    variables = labelled.init(jax.random.key(0), eval_batches(columns, 64)[0])
    found = judge(labelled, variables, eval_batches(columns, 64), {"x": ("most", "some", "none")})
    assert list(found.importance) == ["most", "some", "none"]
    assert found.importance["most"][0] > 5 * found.importance["some"][0] > 0
    assert found.importance["none"] == (0.0, 0.0)
    # Of numbers it is the mean absolute error that grows: here from 0 to the mean of |a - b| of two normals.
    named, numbers = {"x": ("most", "some", "none")}, x @ np.array([6, 1, 0], np.float32)
    batches = eval_batches({"x": x, "label": numbers}, 64)
    off = farthest(regression(Difference(), inputs="x"), variables, batches, named)
    assert list(off.importance) == list(named["x"])
    for name, slope in zip(named["x"], (6, 1, 0), strict=True):
        assert off.importance[name][0] == pytest.approx(
            slope * 2 / np.sqrt(np.pi), rel=0.05, abs=1e-6
        )
    page = judged(Inspection(None, {}, {}, (), named, {}, far={"test": off}))
    assert "How much the mean absolute error grows when a feature is shuffled" in page
    # Under one name they go together.
    found = judge(labelled, variables, eval_batches(columns, 64), {"x": ("both", "both", "none")})
    assert list(found.importance) == ["both", "none"]


class Tokens(nn.Module):
    """Chances by how often token 3 is there."""

    @nn.compact
    def __call__(self, x, *, train=False):
        scale = self.param("scale", nn.initializers.ones, ())
        return scale * np.array([1.0, -1.0], np.float32) * ((x == 3).sum(-1, keepdims=True) - 0.5)


def test_texts_are_shown_in_words_and_hang_on_the_ones_that_count():
    columns = {
        "tokens": np.array([[1, 3, 2, 0], [2, 1, 0, 0], [4, 4, 3, 1]], np.int32),
        "label": np.array([0, 1, 1], np.int32),
    }
    words = ("", "a", "film", "<good>", "of")

    def score(logits, batch, train):
        return classification(Tokens()).score(logits, batch, train)

    task = supervised(Tokens(), "tokens", score)
    batches = eval_batches(columns, 3)
    variables = task.init(jax.random.key(0), batches[0])
    found = judge(task, variables, batches, {"tokens": words})
    worst = found.worst[0]
    assert worst.row == 2
    assert worst.hangs.argmax() == 2
    assert np.count_nonzero(worst.hangs) == 1
    inside = Inspection(None, {}, {"test": found}, ("yes", "no"), {"tokens": words}, {})
    page = judged(inside)
    assert "&lt;good&gt;" in page
    told = judged(inside._replace(cells={"test": {2: {"town <b>": "Oslo", "age": "31"}}}))
    assert "town &lt;b&gt;</td><td>Oslo</td>" in told  # a table's own words in place of codes
    assert "&lt;good&gt;" not in told.partition("row 2")[0]
    assert "row 2: no, said yes" in page


def test_slices_are_tables_of_metrics_with_their_intervals():
    one = {"rows": 1200, "loss": (0.51234, 0.5, 0.52), "accuracy": (0.75, 0.7, 0.8)}
    shown = _slices("sex <f>", {"f": one, "(missing)": one})
    assert "sex &lt;f&gt;" in shown
    assert "1,200" in shown
    assert "0.5123 (0.5 ... 0.52)" in shown


def test_what_is_no_classification_is_not_judged(pictures):
    task, variables, columns, _ = pictures
    wrong = {**columns, "label": columns["label"] + 9}
    assert judge(task, variables, eval_batches(wrong, 16)) is None
    assert judge(task, variables, eval_batches({"image": columns["image"]}, 16)) is None


class Repeats(nn.Module):
    """The last value, again and again."""

    @nn.compact
    def __call__(self, past, *, train=False):
        return jax.numpy.repeat(past[:, -1:], 3, 1) * self.param("w", nn.initializers.ones, ())


def test_numbers_that_are_farthest_off_are_those_of_all_rows():
    draw = np.random.default_rng(0)
    past, future = draw.normal(size=(2, 50, 40, 2)).astype(np.float32)
    future = future[:, :3].copy()
    future[draw.random(future.shape) < 0.2] = np.nan  # gaps
    task, batches = (
        forecasting(Repeats(), gaps=True),
        eval_batches({"past": past, "future": future}, 16),
    )
    variables = task.init(jax.random.key(0), batches[0])
    looked = farthest(task, variables, batches, shown=3)
    found = looked.rows
    assert looked.importance == {}
    off = np.nanmean(np.abs(np.repeat(past[:, -1:], 3, 1) - future), (1, 2))
    assert [far.row for far in found] == np.argsort(-off)[:3].tolist()
    np.testing.assert_allclose([far.error for far in found], np.sort(off)[:-4:-1], rtol=1e-5)
    np.testing.assert_array_equal(found[0].truth, future[found[0].row])
    inside = Inspection(None, {}, {}, (), {}, {}, far={"test": looked})
    page = judged(inside)
    assert f"row {found[0].row}: off by {found[0].error:.4g}" in page
    assert page.count("<svg") == 6  # the past, and what followed beside what was said


def test_numbers_are_compared_in_the_units_that_are_predicted():
    rows = {"x": np.arange(6, dtype=np.float32)[:, None], "label": np.arange(6, dtype=np.float32)}
    batches = eval_batches(rows, 4)

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, *, train=False):
            return nn.Dense(1)(x)[:, 0]

    moved = regression(Model(), inputs="x", origin=1000.0)
    unknown = dataclasses.replace(moved, origin=0.0)  # predicts what is not told of
    for task, count, truth in (
        (regression(Model(), inputs="x"), 6, "5"),
        (moved, 6, "1005"),
        (unknown, 0, ""),
    ):
        variables = task.init(jax.random.key(0), batches[0])
        found = farthest(task, variables, batches)
        assert (len(found.rows) if found else 0) == count
        if found:
            inside = Inspection(None, {}, {}, (), {"x": ("size",)}, {}, far={"test": found})
            assert f"row 5: {truth}, said {found.rows[0].said:.4g}" in judged(inside)
