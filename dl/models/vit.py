"""Vision Transformer: pictures as rows of patches (Dosovitskiy et al. 2021, "An image is worth 16x16 words")."""

from typing import Literal

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
            "indivisible",
            f"pictures of {height} x {width} cannot be cut into patches of {size} x {size}",
        )
    x = x.reshape(batch, height // size, size, width // size, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, size * size * channels)


class ViT(nn.Module):
    """Linear patch embedding, learned positions, Transformer, classifier on one vector.

    Input ``[batch, height, width, channels]`` float, output ``[batch, classes]`` logits.

    Attributes:
      classes: number of outputs; 0 gives what the classifier would read, ``[batch, width]``, and with the pool
        ``'none'`` every place's vector, ``[batch, places, width]``.
      patch: side of a patch in pixels.
      pool: ``'mean'`` classifies the patches' mean (as good: Beyer et al. 2022, "Better plain ViT
        baselines"), ``'first'`` a learned class token put before them, as first published, ``'both'`` that
        and the distillation token, a classifier on each, whose logits are averaged.
      distilled: a second learned token, after the class token, which learned from a teacher (Touvron et al.
        2021, "DeiT"); ``'both'`` always has it.
    """

    classes: int
    body: Transformer
    patch: int = 4
    pool: Literal["mean", "first", "both", "none"] = "mean"
    distilled: bool = False

    @nn.compact
    def __call__(self, x, *, kept=None, train: bool = False):
        """``kept [batch, some, places]``: the places that are seen, each a row of zeros with a 1; None for all."""
        x = Dense(self.body.width, name="patches")(patches(x, self.patch))
        start = nn.initializers.normal(0.02)
        tokens = ["distillation_token"] if self.distilled or self.pool == "both" else []
        tokens += ["class_token"] if self.pool in ("first", "both") else []
        for name in tokens:
            token = self.param(name, nn.initializers.zeros, (1, self.body.width))
            token = jnp.broadcast_to(token, (x.shape[0], *token.shape)).astype(x.dtype)
            x = jnp.concatenate([token, x], axis=1)
        x = x + self.param("positions", start, x.shape[1:]).astype(x.dtype)
        if kept is not None:
            x = kept.astype(x.dtype) @ x
        x, _ = self.body(x, train=train)
        if self.pool == "none":
            return x
        if self.pool == "mean":
            read = jnp.mean(x[:, len(tokens) :] if tokens else x, axis=1)
        else:
            read = x[:, 0]
        if not self.classes:
            return read
        logits = Dense(self.classes, name="head")(read)
        if self.pool == "both":
            logits = (logits + Dense(self.classes, name="distillation_head")(x[:, 1])) / 2
        return logits
