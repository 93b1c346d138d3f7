"""MLP-Mixer: pictures by feed-forward layers (Tolstikhin et al. 2021, "MLP-Mixer: an all-MLP architecture")."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.models.layers import Dense, Dropout, LayerNorm
from dl.models.vit import patches


class MixerBlock(nn.Module):
    """A feed-forward along the patches, the same for every channel, then one along the channels, the same for
    every patch; each reads its input normed, and adds to it. ``[batch, patches, width]`` to the same.

    Attributes:
      along, across: widths inside the two, half of and four times the channels as published.
    """

    along: int
    across: int
    dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        def mix(x, hidden, name):
            h = Dense(x.shape[-1], name=f"{name}_out")(nn.gelu(Dense(hidden, name=f"{name}_in")(x)))
            return Dropout(self.dropout)(h, train=train)

        turned = LayerNorm(name="patches_norm")(x).swapaxes(1, 2)
        x = x + mix(turned, self.along, "patches").swapaxes(1, 2)
        return x + mix(LayerNorm(name="channels_norm")(x), self.across, "channels")


class Mixer(nn.Module):
    """Linear patch embedding, :class:`MixerBlock` layers, a norm, classifier on the patches' mean.

    Input ``[batch, height, width, channels]`` float, output ``[batch, classes]`` logits. The size of the pictures
    is the trained one's: the layers along the patches have as many inputs.

    Attributes:
      classes: number of outputs; 0 gives what the classifier would read, ``[batch, width]``.
      width: channels of a patch; patch: its side in pixels.
      dropout: rate after every feed-forward.
    """

    classes: int
    width: int = 512
    layers: int = 8
    patch: int = 16
    dropout: float | jax.Array = 0.0

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x = Dense(self.width, name="patches")(patches(x, self.patch))
        for layer in range(self.layers):
            block = MixerBlock(
                max(1, self.width // 2), 4 * self.width, self.dropout, name=f"layer_{layer}"
            )
            x = block(x, train=train)
        x = jnp.mean(LayerNorm(name="norm")(x), axis=1)
        return Dense(self.classes, name="head")(x) if self.classes else x
