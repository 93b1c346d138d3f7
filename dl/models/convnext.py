"""ConvNeXt: a convolutional network built as Transformers are (Liu et al. 2022, "A ConvNet for the 2020s")."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.errors import UserError
from dl.models.convolution import Conv
from dl.models.layers import Dense, Dropout, LayerNorm, remat_policy

_Norm = partial(LayerNorm, epsilon=1e-6)


class ConvNeXtBlock(nn.Module):
    """A 7x7 filter of each channel, then a feed-forward of every place, scaled by channel, beside the identity.

    Attributes:
      scale: with which the branch begins, so that a block begins as the identity nearly.
    """

    scale: float = 1e-6

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        h = Conv(width, (7, 7), feature_group_count=width, name="depthwise")(x)
        h = Dense(4 * width, name="in")(_Norm(name="norm")(h))
        h = Dense(width, name="out")(nn.gelu(h, approximate=False))
        return x + h * self.param("scale", nn.initializers.constant(self.scale), (width,))


class ConvNeXt(nn.Module):
    """Patches, then stages of blocks, each at half the size of the one before; the classifier reads their mean.

    Input ``[batch, height, width, channels]`` float, output ``[batch, classes]`` logits.

    Attributes:
      classes: number of outputs; 0 gives what the classifier would read, ``[batch, widths[-1]]``.
      widths: channels of each stage; depths: its blocks.
      patch: side of the first patches in pixels, 4 as published for pictures of 224.
      dropout: rate before the classifier; epsilon: of the norm before it.
    """

    classes: int
    widths: Sequence[int] = (96, 192, 384, 768)
    depths: Sequence[int] = (3, 3, 9, 3)
    patch: int = 4
    dropout: float | jax.Array = 0.0
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        size, run = min(x.shape[1:3]), lambda block, x: block(x)
        if size < self.patch * 2 ** (len(self.widths) - 1):
            raise UserError(
                "picture-too-small",
                f"{len(self.widths)} stages from patches of {self.patch} halve a side of {size} to nothing: take "
                "fewer stages, smaller patches or larger pictures",
            )
        if policy := remat_policy():
            run = nn.remat(run, policy=policy)
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            side = (self.patch, self.patch) if stage == 0 else (2, 2)
            if stage > 0:
                x = _Norm(name=f"norm_{stage}")(x)
            x = Conv(width, side, side, padding="VALID", name=f"patches_{stage}")(x)
            if stage == 0:
                x = _Norm(name="norm_0")(x)
            for place in range(depth):
                x = run(ConvNeXtBlock(name=f"block_{stage}_{place}"), x)
        x = LayerNorm(epsilon=self.epsilon, name="norm")(jnp.mean(x, axis=(1, 2)))
        x = Dropout(self.dropout)(x, train=train)
        return Dense(self.classes, name="head")(x) if self.classes else x
