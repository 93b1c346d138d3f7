"""Vision Transformer: pictures as rows of patches (Dosovitskiy et al. 2021, "An image is worth 16x16 words")."""

import flax.linen as nn
import jax.numpy as jnp

from dl.core.errors import UserError
from dl.models.layers import Dense
from dl.models.transformer import Transformer


def patches(x, size: int):
    """``[batch, height, width, channels]`` to ``[batch, height / size * width / size, size * size *
    channels]``, row by row."""
    batch, height, width, channels = x.shape
    if height % size or width % size:
        raise UserError(
            f"pictures of {height} x {width} cannot be cut into patches of {size} x {size}"
        )
    x = x.reshape(batch, height // size, size, width // size, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, size * size * channels)


class ViT(nn.Module):
    """Linear patch embedding, learned positions, Transformer, classifier on the patches' mean (as good
    as a class token: Beyer et al. 2022, "Better plain ViT baselines").

    Input ``[batch, height, width, channels]`` float, output ``[batch, classes]`` logits.
    """

    classes: int
    body: Transformer
    patch: int = 4

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x = Dense(self.body.width, name="patches")(patches(x, self.patch))
        start = nn.initializers.normal(0.02)
        x = x + self.param("positions", start, x.shape[1:]).astype(x.dtype)
        x, _ = self.body(x, train=train)
        return Dense(self.classes, name="head")(jnp.mean(x, axis=1))
