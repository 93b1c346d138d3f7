"""What stands around an encoder of pictures while it learns without labels."""

import flax.linen as nn

from dl.models.layers import Dense
from dl.models.transformer import Transformer
from dl.models.vit import ViT


class Projected(nn.Module):
    """An encoder, and behind it two layers whose output is compared and later thrown away (Chen et al. 2020, "A
    simple framework for contrastive learning of visual representations", SimCLR).

    ``[batch, ...]`` to ``[batch, width]``.

    Attributes:
      encoder: ``[batch, ...]`` to ``[batch, features]``, called with ``train``.
      hidden: width of the first layer; width: of what is compared.
    """

    encoder: nn.Module
    hidden: int = 256
    width: int = 64

    def setup(self):
        self.first, self.last = Dense(self.hidden), Dense(self.width)

    def features(self, x, *, train: bool = False):
        """What the encoder gives, ``[batch, features]``."""
        return self.encoder(x, train=train)

    def __call__(self, x, *, train: bool = False):
        return self.last(nn.relu(self.first(self.features(x, train=train))))


class MaskedAutoencoder(nn.Module):
    """A ViT that sees some patches, and a light Transformer that says from these what all of them hold (He et al.
    2022, "Masked autoencoders are scalable vision learners").

    ``[batch, height, width, channels]`` to ``[batch, patches, values]``, the numbers of a patch.

    Attributes:
      encoder: without classes and with the pool ``'none'``.
      decoder: what says it; values: numbers of a patch; places: patches of a picture.
    """

    encoder: ViT
    decoder: Transformer
    values: int
    places: int

    def setup(self):
        width = self.decoder.width
        self.narrow, self.pixels = Dense(width), Dense(self.values)
        self.hidden = self.param("hidden", nn.initializers.normal(0.02), (width,))
        self.positions = self.param("positions", nn.initializers.normal(0.02), (self.places, width))

    def features(self, x, *, train: bool = False):
        """The mean of the vectors of all patches, ``[batch, width]``."""
        return self.encoder(x, train=train).mean(1)

    def __call__(self, x, kept, *, train: bool = False):
        """``kept [batch, some, patches]``: the patches that are seen, each a row of zeros with a 1."""
        seen = self.narrow(self.encoder(x, kept=kept, train=train))
        kept = kept.astype(seen.dtype)
        lacking = 1 - kept.sum(1)[..., None]
        every = kept.swapaxes(1, 2) @ seen + lacking * self.hidden.astype(seen.dtype)
        every, _ = self.decoder(every + self.positions.astype(seen.dtype), train=train)
        return self.pixels(every)


def masked_autoencoder(
    encoder: ViT, size: tuple[int, int, int], layers: int = 1
) -> MaskedAutoencoder:
    """The autoencoder around a ViT of pictures of ``size``, height, width and channels; its decoder of so many
    ``layers`` is half as wide."""
    height, width, channels = size
    half = max(1, encoder.body.width // 2)
    decoder = encoder.body.clone(width=half, layers=layers, heads=1)
    encoder = encoder.clone(classes=0, pool="none")
    places = height * width // encoder.patch**2
    return MaskedAutoencoder(encoder, decoder, encoder.patch**2 * channels, places)
