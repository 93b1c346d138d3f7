"""Picture to picture, for style transfer at once (Johnson et al. 2016, "Perceptual losses")."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.errors import UserError
from dl.models.convolution import Conv
from dl.models.layers import Dense
from dl.models.unet import depth_to_space


class InstanceNorm(nn.Module):
    """Zero mean and unit variance of every channel of every picture (Ulyanov et al. 2016)."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x):
        flat = x.reshape(x.shape[0], -1, x.shape[-1]).astype(jnp.float32)
        flat = flat - flat.mean(1, keepdims=True)
        flat = flat * jax.lax.rsqrt(jnp.square(flat).mean(1, keepdims=True) + self.epsilon)
        flat = flat * self.param("scale", nn.initializers.ones, (x.shape[-1],))
        flat = flat + self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return flat.astype(x.dtype).reshape(x.shape)


class StyleNetwork(nn.Module):
    """Two halvings, residual blocks, two doublings; instance norm throughout, sigmoid at the end.

    ``[batch, height, width, channels]`` in 0..1 to the same; height and width divisible by 4.

    Attributes:
      widths: channels at full, half and quarter size; blocks: residual blocks at the last.
    """

    widths: Sequence[int] = (32, 64, 128)
    blocks: int = 5

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        height, width, channels = x.shape[1:]
        if height % 4 or width % 4:
            raise UserError("indivisible", f"pictures of {height} x {width} cannot be halved twice")
        full, half, quarter = self.widths

        def convolve(x, features, window=3, stride=1):
            edge = ((0, 0), *[(window // 2, window // 2)] * 2, (0, 0))
            x = jnp.pad(x, edge, mode="reflect")  # so that no frame shows
            return Conv(features, (window, window), (stride, stride), padding="VALID")(x)

        x = nn.relu(InstanceNorm()(convolve(x, full, window=5)))
        x = nn.relu(InstanceNorm()(convolve(x, half, stride=2)))
        x = nn.relu(InstanceNorm()(convolve(x, quarter, stride=2)))
        for _ in range(self.blocks):
            h = nn.relu(InstanceNorm()(convolve(x, quarter)))
            x = x + InstanceNorm()(convolve(h, quarter))
        for features in (half, full):
            x = nn.relu(InstanceNorm()(convolve(depth_to_space(Dense(4 * features)(x)), features)))
        return nn.sigmoid(convolve(x, channels, window=5))
