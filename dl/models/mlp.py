"""Feed-forward networks."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from dl.core.errors import UserError, bounded
from dl.models.layers import Activation, Dense, Dropout


class MLP(nn.Module):
    """Fully connected layers with an activation between them, none after the last.

    Input ``[batch, ...]`` float, flattened to ``[batch, inputs]``; output ``[batch, features[-1]]``.

    Attributes:
      features: width of every layer, the output's last.
      activation: elementwise function.
      dropout: rate after each activation; input_dropout: rate on the input (0.5 and 0.2 in
        Srivastava et al. 2014). Both may be traced.
      norm: between a hidden layer and its activation: None, ``nn.BatchNorm`` (Ioffe & Szegedy 2015) or
        ``dl.models.layers.LayerNorm``.
      kernel_init: of every layer; ``lecun_normal`` suits tanh and SELU, ``he_normal`` ReLU and its
        kin (He et al. 2015), ``xavier_uniform`` sigmoid (Glorot & Bengio 2010).
    """

    features: Sequence[int]
    activation: Activation = nn.relu
    dropout: float | jax.Array = 0.0
    input_dropout: float | jax.Array = 0.0
    norm: type[nn.Module] | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        if not self.features:
            raise UserError("widths-empty", "an MLP needs a width or more: its outputs")
        for width in self.features:
            bounded("each width", width, at_least=1, whole=True)
        x = Dropout(self.input_dropout)(x.reshape(x.shape[0], -1), train=train)
        for width in self.features[:-1]:
            x = Dense(width, kernel_init=self.kernel_init)(x)
            if self.norm is nn.BatchNorm:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            elif self.norm is not None:
                x = self.norm()(x)
            x = Dropout(self.dropout)(self.activation(x), train=train)
        return Dense(self.features[-1], kernel_init=self.kernel_init)(x)


def mirrored(
    widths: Sequence[int], code: int, outputs: int, activation: Activation = nn.gelu
) -> tuple[MLP, MLP]:
    """An encoder to ``code`` features through hidden layers of ``widths``, and a decoder back through
    them to ``outputs`` features."""
    return MLP((*widths, code), activation), MLP((*widths[::-1], outputs), activation)
