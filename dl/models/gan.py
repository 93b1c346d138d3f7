"""Generators and discriminators after DCGAN (Radford et al. 2016)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.models.autoencoder import seed
from dl.models.convolution import Conv
from dl.models.layers import Dense
from dl.models.unet import depth_to_space
from dl.models.vocabulary import Embed


class Generator(nn.Module):
    """Noise to pictures: a linear layer, then stages of batch norm, ReLU, 3x3 convolution that double
    the size; tanh.

    ``[batch, latent] -> [batch, *shape]`` in -1..1.

    Attributes:
      shape: (height, width, channels), the first two divisible by 2 for every stage.
      widths: channels of each stage, the smallest picture first.
      classes: number of labels it may be asked for, 0 for none: their vectors join the noise.
    """

    shape: Sequence[int]
    widths: Sequence[int] = (128, 64)
    classes: int = 0

    @nn.compact
    def __call__(self, noise, label=None, *, train: bool = False):
        if self.classes:
            noise = jnp.concatenate([noise, Embed(self.classes, 32)(label)], axis=-1)
        x = seed(noise, self.shape, self.widths)
        for width in (*self.widths[1:], self.widths[-1]):
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
            x = depth_to_space(Conv(4 * width, (3, 3))(x))
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return jnp.tanh(Conv(self.shape[2], (3, 3))(x))


class Discriminator(nn.Module):
    """Pictures to scores: stages of 3x3 convolution with stride 2 and leaky ReLU, then linear.

    ``[batch, height, width, channels] -> [batch]``. There is no norm across the batch, so every score
    is of its own picture, as the gradient penalty needs.

    Attributes:
      widths: channels of each stage.
      spectral: divide every kernel by its largest singular value (Miyato et al. 2018), kept by power
        iteration in the collection ``batch_stats`` and renewed when ``train`` is True.
      classes: number of labels, 0 for none; the label's vector times the features is added to the
        score (Miyato & Koyama 2018, projection discriminator).
    """

    widths: Sequence[int] = (64, 128)
    spectral: bool = False
    classes: int = 0

    @nn.compact
    def __call__(self, x, label=None, *, train: bool = False):
        def apply(layer, *inputs):
            if not self.spectral:
                return layer(*inputs)
            return nn.SpectralNorm(layer)(*inputs, update_stats=train)

        for width in self.widths:
            x = nn.leaky_relu(apply(Conv(width, (3, 3), strides=(2, 2)), x), 0.2)
        x = x.reshape(x.shape[0], -1)
        score = apply(Dense(1), x)[:, 0]
        if self.classes:
            score = score + jnp.sum(x * apply(Embed(self.classes, x.shape[-1]), label), axis=-1)
        return score


class GAN(nn.Module):
    """Both players in one module, so that they are one parameter tree.

    Attributes:
      latent: length of the noise.
    """

    generator: nn.Module
    discriminator: nn.Module
    latent: int = 64

    def generate(self, noise, label=None, *, train: bool = False):
        """Pictures from ``noise [batch, latent]``."""
        return self.generator(noise, label, train=train)

    def discriminate(self, x, label=None, *, train: bool = False):
        """Scores ``[batch]`` of pictures, higher for more real."""
        return self.discriminator(x, label, train=train)

    def __call__(self, x, label=None, *, train: bool = False):
        noise = jnp.zeros((x.shape[0], self.latent), jnp.float32)
        fake = self.generate(noise, label, train=train)
        return self.discriminate(fake, label, train=train)

    def noise(self, key: jax.Array, count: int) -> jax.Array:
        """``count`` draws of standard normal noise, ``[count, latent]``."""
        return jax.random.normal(key, (count, self.latent))
