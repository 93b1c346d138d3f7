"""Random transformations of an image together with its segments or boxes, inside the compiled step.

As in :mod:`dl.data.transforms.images`, each maker returns a pure ``(key, batch) -> batch`` keyed per example. A
batch holds ``image [batch, height, width, channels]`` and, where the task has them, ``segments [batch,
height, width]`` (class numbers, sampled to the nearest) and ``boxes [batch, objects, 4]`` (left, top,
right, bottom in pixels) with ``label [batch, objects]``, -1 where there is no object.
"""

import jax
import jax.numpy as jnp

from dl.core.errors import UserError, bounded
from dl.core.random import example_keys
from dl.data.transforms.images import Transform, coin, integers, uniform


def random_flips(horizontal=0.5, vertical=0.0) -> Transform:
    """Mirror left-right and top-bottom, each with its probability."""
    bounded("horizontal", horizontal, at_least=0, at_most=1)
    bounded("vertical", vertical, at_least=0, at_most=1)

    def transform(key, batch):
        count, height, width = batch["image"].shape[:3]
        result = dict(batch)
        sides = ((horizontal, 2, width, (2, 1, 0, 3)), (vertical, 1, height, (0, 3, 2, 1)))
        for place, (probability, axis, size, order) in enumerate(sides):
            chosen = coin(jax.random.fold_in(key, place), count, probability)

            def pick(new, old, chosen=chosen):
                return jnp.where(chosen.reshape((count,) + (1,) * (old.ndim - 1)), new, old)

            for name in ("image", "segments"):
                if name in result:
                    result[name] = pick(jnp.flip(result[name], axis), result[name])
            if "boxes" in result:
                boxes = result["boxes"]
                odd = jnp.array([edge % 2 == axis % 2 for edge in range(4)])
                mirrored = jnp.where(odd, size - boxes, boxes)[..., jnp.array(order)]
                result["boxes"] = pick(_where_real(result, mirrored), boxes)
        return result

    return transform


def _where_real(batch, boxes):
    """``boxes`` where there is an object, 0 elsewhere."""
    return jnp.where((batch["label"] >= 0)[..., None], boxes, 0.0)


def random_quarter_turns() -> Transform:
    """Turn square images and masks by 0, 90, 180 or 270 degrees."""

    def transform(key, batch):
        turns = integers(key, len(batch["image"]), (), 4)

        def turned(value):
            if value.shape[1] != value.shape[2]:
                raise UserError(
                    "not-square",
                    f"only square images can be turned, not {list(value.shape[1:3])}: cut square tiles first",
                )
            one = turns.reshape((-1,) + (1,) * (value.ndim - 1))
            value = jnp.where(one % 2 == 1, jnp.rot90(value, 1, (1, 2)), value)
            return jnp.where(one >= 2, jnp.rot90(value, 2, (1, 2)), value)

        return {**batch, **{n: turned(batch[n]) for n in ("image", "segments") if n in batch}}

    return transform


def random_tile(height: int, width: int) -> Transform:
    """Cut ``height`` x ``width`` pixels from a uniform place of image and mask."""
    bounded("height", height, at_least=1, whole=True)
    bounded("width", width, at_least=1, whole=True)

    def transform(key, batch):
        count, tall, wide = batch["image"].shape[:3]
        _fits(height, width, tall, wide)
        top = integers(jax.random.fold_in(key, 0), count, (), tall - height + 1)
        left = integers(jax.random.fold_in(key, 1), count, (), wide - width + 1)
        return _cut(batch, top, left, height, width)

    return transform


def focused_tile(height: int, width: int, focus=0.5) -> Transform:
    """Cut ``height`` x ``width`` pixels around a random pixel that counts (``segments`` not -1); with probability
    ``focus`` around one of another class than the first, where there is one (Isensee et al. 2021, "nnU-Net")."""
    bounded("height", height, at_least=1, whole=True)
    bounded("width", width, at_least=1, whole=True)
    bounded("focus", focus, at_least=0, at_most=1)

    def transform(key, batch):
        count, tall, wide = batch["image"].shape[:3]
        _fits(height, width, tall, wide)
        segments = batch["segments"]
        asked = coin(jax.random.fold_in(key, 0), count, focus) & (segments > 0).any((1, 2))
        wanted = jnp.where(asked[:, None, None], segments > 0, segments >= 0)
        place = jax.vmap(random_place)(example_keys(jax.random.fold_in(key, 1), count), wanted)
        top = jnp.clip(place[:, 0] - height // 2, 0, tall - height)
        left = jnp.clip(place[:, 1] - width // 2, 0, wide - width)
        return _cut(batch, top, left, height, width)

    return transform


def random_place(key: jax.Array, real: jax.Array) -> jax.Array:
    """(row, column) of one of the pixels that are ``real [height, width]``, each as likely; the first pixel where
    none is."""
    drawn = jnp.where(real, jax.random.uniform(key, real.shape), -1.0)
    return jnp.stack(jnp.unravel_index(drawn.argmax(), real.shape))


def _fits(height: int, width: int, tall: int, wide: int) -> None:
    if height > tall or width > wide:
        raise UserError(
            "tile-too-large",
            f"a {height}x{width} tile does not fit a {tall}x{wide} image: cut smaller ones",
        )


def _cut(batch, top, left, height: int, width: int):
    """``height`` x ``width`` pixels of image and mask from rows ``top`` and columns ``left [batch]`` on."""

    def cut(value):
        def one(x, row, column):
            start = (row, column) + (0,) * (x.ndim - 2)
            return jax.lax.dynamic_slice(x, start, (height, width, *x.shape[2:]))

        return jax.vmap(one)(value, top, left)

    return {**batch, **{n: cut(batch[n]) for n in ("image", "segments") if n in batch}}


def elastic(deviation, grid: int = 3) -> Transform:
    """Warp image and mask by a smooth random field (Ronneberger et al. 2015, "U-Net": a 3x3 ``grid``
    of normal displacements of ``deviation`` pixels, bicubically interpolated; edges mirrored)."""
    bounded("deviation", deviation, at_least=0)
    bounded("grid", grid, at_least=1, whole=True)

    def transform(key, batch):
        count, height, width = batch["image"].shape[:3]
        draw = jax.vmap(lambda k: jax.random.normal(k, (2, grid, grid)))
        coarse = draw(example_keys(key, count)) * deviation
        field = jax.image.resize(coarse, (count, 2, height, width), "cubic")
        rows = jnp.arange(height, dtype=jnp.float32)[:, None] + field[:, 0]
        columns = jnp.arange(width, dtype=jnp.float32) + field[:, 1]
        result = {**batch, "image": _bilinear(batch["image"], rows, columns)}
        if "segments" in batch:
            result["segments"] = _nearest(batch["segments"], rows, columns)
        return result

    return transform


def _reflect(places, size: int):
    """Whole-numbered places brought into ``0 ... size - 1`` by mirroring at both edges."""
    period = max(2 * (size - 1), 1)
    places = jnp.abs(places) % period
    return jnp.minimum(places, period - places) if size > 1 else jnp.zeros_like(places)


def _at(image, rows, columns):
    """Pixels ``[batch, out_height, out_width, ...]`` at whole-numbered places, mirrored outside."""
    height, width = image.shape[1:3]
    flat = image.reshape(len(image), height * width, *image.shape[3:])
    place = _reflect(rows, height) * width + _reflect(columns, width)
    return jax.vmap(lambda x, p: x[p])(flat, place)


def _nearest(image, rows, columns):
    return _at(image, jnp.round(rows).astype(jnp.int32), jnp.round(columns).astype(jnp.int32))


def _bilinear(image, rows, columns):
    """Pixels between pixels; the image's dtype is kept."""
    top, left = jnp.floor(rows).astype(jnp.int32), jnp.floor(columns).astype(jnp.int32)
    down, right = (rows - top)[..., None], (columns - left)[..., None]

    def at(row, column):
        return _at(image, row, column).astype(jnp.float32)

    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return _as(upper * (1 - down) + lower * down, image.dtype)


def _as(pixels, dtype):
    if jnp.issubdtype(dtype, jnp.floating):
        return pixels.astype(dtype)
    return jnp.round(jnp.clip(pixels, 0, 255)).astype(dtype)


def random_scale(
    low=0.7, high=1.4, *, stretch=0.0, visible: float = 0.3, fill: float = 0.0
) -> Transform:
    """Zoom by a factor log-uniform in ``low ... high`` and shift, keeping the picture's size.

    The zoomed picture is placed so that it covers the frame, or lies within it where it is smaller;
    what it does not cover is ``fill``. Boxes follow and are cut at the frame; one that keeps less than
    ``visible`` of its area is dropped (label -1). ``segments`` follow too, class 0 outside.

    Args:
      stretch: width and height may differ by a factor log-uniform in ``1 / (1 + stretch) ... 1 +
        stretch``.
    """
    bounded("low", low, above=0)
    bounded("high", high, at_least=low if isinstance(low, int | float) else None, above=0)
    bounded("stretch", stretch, at_least=0)
    bounded("visible", visible, at_least=0, at_most=1)

    def transform(key, batch):
        image = batch["image"]
        count, height, width = image.shape[:3]
        zoom = jnp.exp(uniform(jax.random.fold_in(key, 0), count, (), jnp.log(low), jnp.log(high)))
        bend = jnp.exp(uniform(jax.random.fold_in(key, 1), count, (), -0.5, 0.5))
        bend = bend ** (2 * jnp.log1p(stretch))
        place = uniform(jax.random.fold_in(key, 2), count, (2,))
        tall, wide = zoom * bend, zoom / bend
        top, left = place[:, 0] * height * (1 - tall), place[:, 1] * width * (1 - wide)

        def sources(size, factor, start):  # output pixel centres in the input's coordinates
            centres = jnp.arange(size, dtype=jnp.float32) + 0.5
            return (centres - start[:, None]) / factor[:, None] - 0.5

        rows, columns = sources(height, tall, top), sources(width, wide, left)
        result = {**batch, "image": _separable(image, rows, columns, fill)}
        if "segments" in batch:
            result["segments"] = _separable_nearest(batch["segments"], rows, columns)
        if "boxes" in batch:
            scale = jnp.stack([wide, tall, wide, tall], -1)[:, None]
            offset = jnp.stack([left, top, left, top], -1)[:, None]
            result.update(
                crop_boxes(batch, batch["boxes"] * scale + offset, height, width, visible)
            )
        return result

    return transform


def crop_boxes(batch, boxes, height: int, width: int, visible: float):
    """``boxes`` cut at a ``height`` x ``width`` frame, and ``label`` with -1 where less than
    ``visible`` of an object's area is left."""
    limit = jnp.array([width, height, width, height], jnp.float32)
    cut = jnp.clip(boxes, 0.0, limit)
    kept = (_area(cut) >= visible * _area(boxes)) & (_area(cut) > 0) & (batch["label"] >= 0)
    return {
        "boxes": jnp.where(kept[..., None], cut, 0.0),
        "label": jnp.where(kept, batch["label"], -1),
    }


def _area(boxes):
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _separable(image, rows, columns, fill):
    """Bilinear resampling on the grid of ``rows [batch, height]`` and ``columns [batch, width]``."""

    def along(x, places):  # interpolates axis 0
        first = jnp.floor(places)
        share = (places - first).reshape((-1,) + (1,) * (x.ndim - 1))
        near = jnp.clip(first.astype(jnp.int32), 0, len(x) - 1)
        far = jnp.clip(first.astype(jnp.int32) + 1, 0, len(x) - 1)
        return x[near] * (1 - share) + x[far] * share

    def one(x, row, column):
        tall = along(x.astype(jnp.float32), row)
        return jnp.swapaxes(along(jnp.swapaxes(tall, 0, 1), column), 0, 1)

    pixels = jnp.where(_inside(image, rows, columns), jax.vmap(one)(image, rows, columns), fill)
    return _as(pixels, image.dtype)


def _separable_nearest(mask, rows, columns):
    height, width = mask.shape[1:3]
    row = jnp.clip(jnp.round(rows).astype(jnp.int32), 0, height - 1)
    column = jnp.clip(jnp.round(columns).astype(jnp.int32), 0, width - 1)
    taken = jax.vmap(lambda x, r, c: x[r][:, c])(mask, row, column)
    return jnp.where(_inside(mask, rows, columns), taken, jnp.zeros((), mask.dtype))


def _inside(image, rows, columns):
    """Whether a place lies on the picture, ``[batch, height, width, 1, ...]`` to fit ``image``."""
    height, width = image.shape[1:3]
    good_rows = (rows >= -0.5) & (rows <= height - 0.5)
    good_columns = (columns >= -0.5) & (columns <= width - 0.5)
    good = good_rows[:, :, None] & good_columns[:, None, :]
    return good.reshape(good.shape + (1,) * (image.ndim - 3))
