"""What a network of pictures is compared with is what it says, in memory and streamed."""

import dataclasses

import numpy as np
import pytest

from dl.baselines.pictures import mask_baselines, picture_baselines, small_pixels
from dl.data.batches.streams import FileRows
from dl.data.splits import Info, Splits, take

INFO = Info("a", "a", "a", "a", "a", "a", ("dark", "bright"))


def streamed(splits):
    def rows(part):
        places = {"row": np.arange(len(next(iter(part.values()))))}
        return FileRows(places, lambda row: {n: v[row["row"]] for n, v in part.items()})

    return dataclasses.replace(splits, **{name: rows(part) for name, part in splits.parts.items()})


def pictures(rows, seed):
    rng = np.random.default_rng(seed)
    label = (np.arange(rows) % 3 == 0).astype(np.int32)
    image = rng.integers(0, 120, (rows, 8, 8, 3), np.uint8)
    image[label == 1] += 100
    return {"image": image, "label": label}


@pytest.mark.parametrize("how", [lambda splits: splits, streamed], ids=["resident", "streamed"])
def test_pixels_and_the_largest_class(how):
    splits = how(Splits(pictures(60, 0), pictures(30, 1), pictures(31, 2), INFO))
    found = picture_baselines(splits, features=20)
    assert found["linear"] == {"validation/accuracy": 1.0, "test/accuracy": 1.0}
    assert found["majority"]["validation/accuracy"] == pytest.approx(20 / 30)
    assert found["majority"]["test/accuracy"] == pytest.approx(20 / 31)
    without = dataclasses.replace(splits, test={})
    assert set(picture_baselines(without)["linear"]) == {"validation/accuracy"}


def test_pictures_are_averaged_down():
    image = np.arange(2 * 6 * 7, dtype=np.uint8).reshape(2, 6, 7, 1)
    small = small_pixels(image, 6)
    np.testing.assert_allclose(
        small[0], image[0, :, :6, 0].reshape(2, 3, 2, 3).mean((1, 3)).ravel()
    )
    assert small_pixels(image, 42).shape == (2, 42)


@pytest.mark.parametrize("how", [lambda splits: splits, streamed], ids=["resident", "streamed"])
def test_the_most_frequent_class_and_a_threshold_of_masks(how):
    def part(seed):
        rng = np.random.default_rng(seed)
        segments = (rng.random((4, 8, 8)) < 0.3).astype(np.int16)
        image = (segments * 150 + rng.integers(0, 100, segments.shape)).astype(np.uint8)
        segments[:, 0] = -1
        return {"image": image[..., None], "segments": segments}

    splits = how(Splits(part(0), part(1), {}, INFO))
    found = mask_baselines(splits)
    assert found["threshold"] == dict.fromkeys(
        (f"validation/{name}" for name in ("accuracy", "mean_iou", "class_iou", "iou_0", "iou_1")),
        1.0,
    )
    truth = take(splits.validation, slice(None))["segments"][:, 1:]
    share = float((truth == 0).mean())
    assert found["majority"]["validation/accuracy"] == pytest.approx(share)
    assert found["majority"]["validation/mean_iou"] == pytest.approx(share / 2)
    assert found["majority"]["validation/iou_0"] == pytest.approx(share)
    assert found["majority"]["validation/iou_1"] == 0
    three = dataclasses.replace(splits, info=dataclasses.replace(INFO, classes=("a", "b", "c")))
    assert set(mask_baselines(three)) == {"majority"}


def test_the_mean_iou_is_that_of_the_task():
    import jax.numpy as jnp

    from dl.baselines.pictures import _mean_iou, _overlaps
    from dl.core.metrics import compute
    from dl.models.unet import UNet
    from dl.tasks.segmentation import segmentation

    rng = np.random.default_rng(3)
    truth, said = rng.integers(-1, 3, (4, 8, 8)), rng.integers(0, 3, (4, 8, 8))
    task = segmentation(UNet(3, (2,)), 3)
    metrics = compute(task.score(10.0 * np.eye(3)[said], {"segments": jnp.asarray(truth)}, False))
    each = np.array([_overlaps(*pair, 3) for pair in zip(said, truth, strict=True)])
    assert float(metrics["mean_iou"]) == pytest.approx(np.mean([_mean_iou(*one) for one in each]))
    both, either, real = each.sum(0)
    assert float(metrics["accuracy"]) == pytest.approx(both.sum() / real.sum())
    assert float(metrics["class_iou"]) == pytest.approx(np.mean(both / either))
    for place, share in enumerate(both / either):
        assert float(metrics[f"iou_{place}"]) == pytest.approx(share)
