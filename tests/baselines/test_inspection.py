import numpy as np
import pytest
from mistakes import raises

from dl.baselines.inspection import PatchMemory, inspection_baselines, simple_features
from dl.data.splits import Info, Splits, take

INFO = Info("a", "a", "a", "a", "a", "a", ("good", "spot", "line"))


def parts(rows, seed):
    """Waves, every second with a bright spot or a dark line, framed by what does not count."""
    rng = np.random.default_rng(seed)
    label = np.arange(rows) % 4 % 3
    segments = np.full((rows, 40, 48), -1, np.int8)
    segments[:, 4:36, 8:40] = 0
    phase = rng.random((rows, 1, 1)) * 6
    image = 128 + 40 * np.sin(np.arange(48) / 3 + phase) + rng.normal(size=(rows, 40, 48)) * 3
    for row in np.flatnonzero(label):
        place = (slice(14, 20), slice(18, 24)) if label[row] == 1 else (slice(8, 30), slice(20, 23))
        segments[row][place] = label[row]
        image[row][place] += 90 if label[row] == 1 else -90
    image[:, :4] = 255  # outside: must not matter
    image = np.clip(image, 0, 255).astype(np.uint8)[..., None]
    return {"image": image, "segments": segments, "label": label.astype(np.int32)}


def test_a_memory_of_good_parts_finds_what_is_odd_and_where():
    train, held = parts(40, 0), parts(12, 1)
    good = take(train, np.flatnonzero(train["label"] == 0))
    memory = PatchMemory(good, memory=500)
    odd, bad = memory(held), held["label"] > 0
    assert odd[bad].min() > 1.5 * odd[~bad].max()
    maps = memory.maps(held)
    np.testing.assert_allclose(maps.max((1, 2)), odd, rtol=1e-6)
    assert (maps[held["segments"] < 0] == 0).all()
    for row in np.flatnonzero(bad):
        top = np.unravel_index(maps[row].argmax(), maps[row].shape)
        near = held["segments"][
            row, max(top[0] - 16, 0) : top[0] + 17, max(top[1] - 16, 0) : top[1] + 17
        ]
        assert (near > 0).any()
    # The nearest by a plain search over all of the bank.
    patches = memory._told(memory._patches(held, 1)[0])
    apart = np.linalg.norm(patches[:, None] - memory.bank[None], axis=-1).min(1)
    assert odd[1] == pytest.approx(apart.max(), rel=1e-4)
    with raises("nothing-to-fit", "8 x 8"):
        PatchMemory({**good, "segments": np.full_like(good["segments"], -1)})


def test_figures_of_what_is_simple():
    splits = Splits(parts(40, 0), parts(12, 1), {}, INFO)
    found = inspection_baselines(splits)
    assert found["linear"] == {"validation/auc": 1.0, "validation/balanced_accuracy": 1.0}
    assert set(found) == {"linear", "nearest"}
    good = take(splits.train, np.flatnonzero(splits.train["label"] == 0))
    alone = inspection_baselines(Splits(good, splits.validation, {}, INFO), good_alone=True)
    assert alone["memory"] == {"validation/auc": 1.0}
    framed = {
        **splits.train,
        "image": np.where(splits.train["segments"] < 0, 0, 1)[..., None] * splits.train["image"],
    }
    np.testing.assert_array_equal(simple_features(framed), simple_features(splits.train))
