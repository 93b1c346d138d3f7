import jax
import jax.numpy as jnp
import numpy as np

from dl.data.transforms.scars import outline, scars

KEY = jax.random.key(0)


def test_only_what_is_marked_is_changed_and_only_where_pixels_count():
    rng = np.random.default_rng(0)
    segments = np.full((96, 48, 40), -1, np.int8)
    segments[:, 6:42, 5:35] = 0
    batch = {"image": rng.integers(80, 140, (96, 48, 40, 1), np.uint8), "segments": segments}
    out = jax.tree.map(np.asarray, jax.jit(scars(0.7))(KEY, batch))
    marked = out["segments"] == 1
    assert out["image"].dtype == np.uint8
    assert not marked[segments < 0].any()
    np.testing.assert_array_equal(out["image"][..., 0][~marked], batch["image"][..., 0][~marked])
    np.testing.assert_array_equal(out["segments"][~marked], segments[~marked])
    drawn = marked.any((1, 2))
    assert 0.5 < drawn.mean() < 0.9
    changed = (out["image"] != batch["image"])[..., 0]
    assert changed[drawn].any((1, 2)).mean() > 0.95
    sizes = marked.sum((1, 2))[drawn]
    assert sizes.min() < 30 < 300 < sizes.max()  # spots and scratches, and regions


def test_outlines_are_around_their_place():
    keys = jax.random.split(KEY, 40)
    found = jax.jit(jax.vmap(lambda key: outline(key, jnp.array([30, 20]), (64, 48))))(keys)
    rows, columns = jnp.arange(64)[:, None], jnp.arange(48)
    near = (jnp.abs(rows - 30) < 8) & (jnp.abs(columns - 20) < 8)
    assert float((found & near).any((1, 2)).mean()) > 0.9
    assert len({int(one.sum()) for one in found}) > 20
