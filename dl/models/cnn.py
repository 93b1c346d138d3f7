"""Small convolutional networks for pictures of digits and the like."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.errors import UserError, bounded
from dl.models.convolution import Conv, max_pool
from dl.models.layers import Dropout


class CNN(nn.Module):
    """Stages of (3x3 convolution, batch norm, activation), each but the first after a 2x2 max-pool.

    The classifier reads the globally averaged last stage, so any picture size will do
    (Lin et al. 2014, "Network in network"; Ioffe & Szegedy 2015, "Batch normalization").

    Input ``[batch, height, width, channels]`` float, output ``[batch, classes]`` logits.

    Attributes:
      classes: number of outputs; 0 gives what the classifier would read, ``[batch, widths[-1]]``.
      widths: channels of each stage; depth: convolutions a stage.
      dropout: rate before the classifier.
    """

    classes: int
    widths: Sequence[int] = (32, 64, 128)
    depth: int = 1
    dropout: float | jax.Array = 0.0
    activation: Callable = nn.relu

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        if not self.widths:
            raise UserError("widths-empty", "give a width or more: the channels of each stage")
        for width in self.widths:
            bounded("each width", width, at_least=1, whole=True)
        bounded("depth", self.depth, at_least=1, whole=True)
        for stage, width in enumerate(self.widths):
            if stage > 0:
                x = max_pool(x, (2, 2), strides=(2, 2))
            for _ in range(self.depth):
                x = Conv(width, (3, 3), use_bias=False)(x)
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
                x = self.activation(x)
        x = jnp.mean(x, axis=(1, 2))
        x = Dropout(self.dropout)(x, train=train)
        return nn.Dense(self.classes)(x) if self.classes else x
