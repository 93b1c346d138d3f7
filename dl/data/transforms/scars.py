"""Defects painted on pictures of good parts, inside the compiled step: what a network can learn to see without
having been shown a real one (Li et al. 2021, "CutPaste"; Zavrtanik et al. 2021, "DRAEM")."""

import jax
import jax.numpy as jnp

from dl.core.errors import bounded
from dl.core.random import example_keys
from dl.data.transforms.images import Transform
from dl.data.transforms.images_with_labels import random_place


def scars(share=0.8, contrast=50.0) -> Transform:
    """On a ``share`` of the pictures one defect each, where pixels count: a spot, a scratch, a patch of another
    picture, or a large ragged region.

    ``segments [batch, height, width]`` become 1 under the defect and stay else as they are. What is under it is
    made darker or brighter by up to ``contrast`` grey levels, or comes from another picture of the batch, turned
    by half. ``image [batch, height, width, channels]`` in 0..255 keeps its dtype.
    """
    bounded("share", share, at_least=0, at_most=1)
    bounded("contrast", contrast, at_least=0)

    def transform(key, batch):
        image, segments = batch["image"], batch["segments"]
        other = jnp.roll(image, 1, 0)[:, ::-1, ::-1].astype(jnp.float32)

        def one(key, x, other, segments):
            keys = [jax.random.fold_in(key, purpose) for purpose in range(4)]
            real = segments >= 0
            where = outline(keys[0], random_place(keys[1], real), real.shape) & real
            where &= jax.random.bernoulli(keys[2], share)
            drawn = jax.random.uniform(keys[3], (4,))
            shift = contrast * (0.2 + 0.8 * drawn[0]) * jnp.where(drawn[1] < 0.6, -1.0, 1.0)
            pasted = jnp.where(drawn[2] < 0.4, other - x, shift) * (0.4 + 0.6 * drawn[3])
            found = jnp.where(where, jnp.ones((), segments.dtype), segments)
            return jnp.clip(x + where[..., None] * pasted, 0, 255), found

        keys = example_keys(key, len(image))
        scarred, found = jax.vmap(one)(keys, image.astype(jnp.float32), other, segments)
        if not jnp.issubdtype(image.dtype, jnp.floating):
            scarred = jnp.round(scarred)
        return {**batch, "image": scarred.astype(image.dtype), "segments": found}

    return transform


def outline(key: jax.Array, place: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """The pixels of one defect around ``place``, bool ``[height, width]`` of that ``shape``, turned by any angle.

    As likely each: a spot of 2 to 12 pixels, a wavy line 10 to 60 long and 1 to 3 wide, a rectangle of 5 to 40
    pixels a side, or a region of 30 to 160 pixels with a ragged edge.
    """
    kind = jax.random.randint(jax.random.fold_in(key, 0), (), 0, 4)
    long, wide, turn, wave, phase = jax.random.uniform(jax.random.fold_in(key, 1), (5,))
    rows, columns = jnp.meshgrid(
        *(jnp.arange(side, dtype=jnp.float32) for side in shape), indexing="ij"
    )
    down, right = rows - place[0], columns - place[1]
    cos, sin = jnp.cos(jnp.pi * turn), jnp.sin(jnp.pi * turn)
    along, across = cos * right + sin * down, cos * down - sin * right
    low = jnp.array([[1.0, 1.0], [5.0, 0.5], [2.5, 2.5], [15.0, 15.0]])[kind]
    high = jnp.array([[6.0, 6.0], [30.0, 1.5], [20.0, 20.0], [80.0, 80.0]])[kind]
    length, width = low * (high / low) ** jnp.stack([long, wide])
    bent = across - jnp.where(kind == 1, 4 * wave, 0.0) * jnp.sin(along / 8 + 2 * jnp.pi * phase)
    ragged = jax.random.normal(jax.random.fold_in(key, 2), (6, 6))
    ragged = jnp.where(kind == 3, 0.4, 0.0) * jax.image.resize(ragged, shape, "cubic")
    far, off = jnp.abs(along) / length, jnp.abs(bent) / width
    round_ = (kind == 0) | (kind == 3)
    return jnp.where(
        round_, jnp.square(far) + jnp.square(off) + ragged < 1, jnp.maximum(far, off) < 1
    )
