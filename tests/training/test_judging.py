"""A trained run judged by other data."""

import dataclasses
import math

import numpy as np
import pytest
from mistakes import raises
from PIL import Image

import dl
from dl.data.own.pictures import OwnPictures
from dl.models.mlp import MLP
from dl.tasks.classification import classification
from dl.training.judging import bootstrap


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures, dl.Recipe):
    data: str = "digits"
    steps: int = 40


def build(config: Config) -> dl.Experiment:
    splits = dl.data.open(config.data, "pictures", config)
    return config.experiment(
        classification(MLP((16, len(splits.info.classes)))),
        dl.train_batches(splits.train, 32, config.seed),
        **dl.held_out(splits, 50),
        select="validation/accuracy",
        measure=lambda predictor, columns, name: {"rows": float(len(columns["label"]))},
    )


def write(folder, images, label):
    for row, (image, number) in enumerate(zip(images, label, strict=True)):
        (folder / f"{number}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{number}" / f"{row:04}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("judged")
    digits = dl.load("digits")
    some = digits.train["image"][:300], digits.train["label"][:300]
    files = write(place / "old", *some)
    run = dl.train(build, Config(data=str(files)), runs=place, name="run", progress=False)
    return run, dl.data.open(str(files), "pictures"), place


def test_its_own_test_rows_give_the_scores_of_the_run(trained):
    run, splits, place = trained
    same = write(place / "same", splits.test["image"], splits.test["label"])
    found = run.evaluate(same)
    for name in ("accuracy", "loss"):
        assert found[name].value == pytest.approx(run.metrics[f"test/{name}"], rel=1e-5)
        assert found[name].low <= found[name].value <= found[name].high
    assert found["rows"].value == len(splits.test["label"])
    assert math.isnan(found["rows"].low)  # a measure of the script's is no mean over rows


def test_classes_go_by_name_and_unseen_ones_are_refused(trained):
    run, splits, place = trained
    some = splits.validation["image"][:8]
    few = write(place / "few", some, np.arange(8) % 2 * 5)  # 0 and 5 alone
    assert run.evaluate(few)["rows"].value == 8
    other = write(place / "other", some, ["cat", "dog"] * 4)
    with raises("class-unseen", "cat", "known are"):
        run.evaluate(other)
    with raises("data-unknown", "nowhere"):
        run.evaluate(place / "nowhere")
    # Nothing of that is left behind.
    again = dl.data.open(run.experiment.config.data, "pictures")
    np.testing.assert_array_equal(again.test["label"], splits.test["label"])


def test_the_interval_is_that_of_a_mean():
    draw = np.random.default_rng(1)
    hits = (draw.random(400) < 0.8).astype(float)
    low, high = bootstrap(hits, np.ones(400))
    error = hits.std() / math.sqrt(400)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (high + low) / 2 == pytest.approx(hits.mean(), abs=0.01)
    # Rows that weigh nothing are no rows.
    padded = np.concatenate([hits, np.zeros(50)])
    assert bootstrap(padded, np.concatenate([np.ones(400), np.zeros(50)])) == (low, high)
    assert all(map(math.isnan, bootstrap(np.zeros(3), np.zeros(3))))
