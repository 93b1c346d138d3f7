"""A U-Net that is told the time and the class, for pictures made out of noise."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from dl.core.errors import bounded
from dl.models.attention import Attention
from dl.models.convolution import Conv
from dl.models.layers import Dense, Dropout
from dl.models.unet import check_sides, depth_to_space, space_to_depth
from dl.models.vocabulary import Embed


def time_waves(time, width: int, slowest: float = 1.0, fastest: float = 1000.0):
    """Sines and cosines of times ``[batch]`` in 0..1, ``[batch, width]``: of frequencies between the two, each as
    much above the one before (Vaswani et al. 2017)."""
    waves = jnp.outer(time.astype(jnp.float32), jnp.geomspace(slowest, fastest, width // 2))
    return jnp.concatenate([jnp.sin(waves), jnp.cos(waves)], axis=-1)


def _norm(x, name=None, **options):
    """Group norm (Wu & He 2018), of eight channels or so a group."""
    groups = max(1, x.shape[-1] // 8)
    return nn.GroupNorm(groups if x.shape[-1] % groups == 0 else 1, name=name, **options)(x)


class TimedBlock(nn.Module):
    """Two convolutions beside the identity; between them what is known of the picture scales and shifts every
    channel (Dhariwal & Nichol 2021, "Diffusion models beat GANs on image synthesis").

    ``[batch, height, width, channels]`` and ``known [batch, features]`` to ``[batch, height, width, self.width]``.
    Begins as the identity, or as a linear map where the width changes.
    """

    width: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, known, *, train: bool = False):
        h = Conv(self.width, (3, 3), name="in")(nn.silu(_norm(x, "norm_in")))
        scale, shift = jnp.split(Dense(2 * self.width, name="known")(known)[:, None, None], 2, -1)
        h = _norm(h, "norm_out", use_bias=False, use_scale=False) * (1 + scale) + shift
        h = Dropout(self.dropout)(nn.silu(h), train=train)
        h = Conv(self.width, (3, 3), kernel_init=nn.initializers.zeros, name="out")(h)
        return h + (x if x.shape[-1] == self.width else Dense(self.width, name="skip")(x))


class DiffusionUNet(nn.Module):
    """U-Net of :class:`TimedBlock` for diffusion and flow matching (Ho et al. 2020, "Denoising diffusion
    probabilistic models").

    Input ``[batch, height, width, channels]``, both sides multiples of ``patch * 2 ** (len(widths) - 1)``, times
    ``[batch]`` in 0..1 and labels int ``[batch]``; output like the input, zeros at the beginning.

    Attributes:
      widths: channels of each resolution, the finest first; depth: blocks of each, on the way down and on the
        way up.
      classes: labels it may be told; ``classes`` itself stands for none. 0 for a network that looks at none.
      heads: of self-attention in the middle, where the picture is smallest; 0 leaves it out.
      patch: squares of that side enter, and leave, as the channels of one place, as in
        :class:`dl.models.unet.UNet`.
    """

    widths: Sequence[int] = (32, 64)
    classes: int = 0
    depth: int = 1
    heads: int = 4
    dropout: float = 0.0
    patch: int = 2

    @nn.compact
    def __call__(self, x, time, label, *, train: bool = False):
        check_sides(x, self.widths, self.patch)
        bounded("depth", self.depth, at_least=1, whole=True)
        channels, features = x.shape[-1], 4 * self.widths[0]
        known = Dense(features, name="time_in")(time_waves(time, features).astype(x.dtype))
        known = Dense(features, name="time_out")(nn.silu(known))
        if self.classes:
            known = known + Embed(self.classes + 1, features, name="label")(label)
        known = nn.silu(known)

        def block(x, width):
            return TimedBlock(width, self.dropout)(x, known, train=train)

        x = Conv(self.widths[0], (3, 3), name="first")(space_to_depth(x, self.patch))
        skips = []
        for level, width in enumerate(self.widths):
            if level > 0:
                x = Dense(width)(space_to_depth(x, 2))  # a 2x2 convolution of stride 2
            for _ in range(self.depth):
                x = block(x, width)
                skips.append(x)
        if self.heads:
            places = _norm(x).reshape(x.shape[0], -1, x.shape[-1])
            attention = Attention(self.heads, out_init=nn.initializers.zeros, name="attention")
            x = x + attention(places)[0].reshape(x.shape)
        x = block(x, self.widths[-1])
        for level, width in reversed(list(enumerate(self.widths))):
            for _ in range(self.depth):
                x = block(jnp.concatenate([x, skips.pop()], axis=-1), width)
            if level > 0:
                x = depth_to_space(Dense(4 * self.widths[level - 1])(x), 2)
        x = nn.silu(_norm(x))
        out = Conv(channels * self.patch**2, (3, 3), kernel_init=nn.initializers.zeros, name="last")
        return depth_to_space(out(x), self.patch)
