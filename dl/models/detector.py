"""A detector without anchors: every place on every feature map says what is there and how far its edges."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.models.convolution import Conv
from dl.models.resnet import ResNetFeatures


class Places(NamedTuple):
    """What a detector says at each of its places, all feature maps one after the other.

    Attributes:
      centre: ``[places, 2]`` x and y in pixels of the input; stride: ``[places]`` of their map.
      logits: ``[batch, places, classes]``; boxes: ``[batch, places, 4]`` left, top, right, bottom in
        pixels; centerness: ``[batch, places]`` logits.
    """

    centre: jax.Array
    stride: jax.Array
    logits: jax.Array
    boxes: jax.Array
    centerness: jax.Array


def grid(height: int, width: int, stride: int) -> np.ndarray:
    """Centres ``[height * width, 2]`` (x, y) of a feature map's cells in pixels of the input."""
    rows, columns = np.mgrid[:height, :width]
    return (np.stack([columns, rows], -1).reshape(-1, 2) + 0.5).astype(np.float32) * stride


class Pyramid(nn.Module):
    """Feature pyramid (Lin et al. 2017): every map gets what the coarser ones know.

    Maps, the finest first and each half the size of the one before, to as many of ``width`` channels.
    """

    width: int

    @nn.compact
    def __call__(self, maps):
        maps = [Conv(self.width, (1, 1))(x) for x in maps]
        for fine in range(len(maps) - 2, -1, -1):
            coarse = jnp.repeat(jnp.repeat(maps[fine + 1], 2, axis=1), 2, axis=2)
            maps[fine] += coarse[:, : maps[fine].shape[1], : maps[fine].shape[2]]
        return [Conv(self.width, (3, 3))(x) for x in maps]


class FCOS(nn.Module):
    """Fully convolutional one-stage detection (Tian et al. 2019, "FCOS"): a residual network, a pyramid
    and one head shared by its maps.

    Input ``[batch, height, width, channels]``, output :class:`Places`.

    Attributes:
      backbone: pictures to feature maps; strides: of those of its maps that are used, the last ones.
      width: channels of pyramid and head; depth: convolutions before each of the head's two outputs.
      prior: probability of an object that the head starts with (Lin et al. 2017, focal loss).
    """

    classes: int
    backbone: nn.Module = ResNetFeatures((1, 1, 1, 1), width=16)
    strides: Sequence[int] = (8, 16, 32)
    width: int = 64
    depth: int = 2
    prior: float = 0.01

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        maps = self.backbone(x, train=train)[-len(self.strides) :]
        maps = Pyramid(self.width, name="pyramid")(maps)

        def tower(name):
            # Group norm, since one head sees maps whose statistics differ.
            groups = max(1, self.width // 8)
            layers = [
                layer
                for place in range(self.depth)
                for layer in (
                    Conv(self.width, (3, 3), use_bias=False, name=f"{name}_{place}"),
                    nn.GroupNorm(groups, name=f"{name}_norm_{place}"),
                    nn.relu,
                )
            ]
            return nn.Sequential(layers)

        small = nn.initializers.normal(0.01)
        rare = nn.initializers.constant(-np.log((1.0 - self.prior) / self.prior))
        sort, edge = tower("sort"), tower("edge")
        to_logits = Conv(self.classes, (3, 3), kernel_init=small, bias_init=rare, name="logits")
        to_edges = Conv(4, (3, 3), kernel_init=small, name="edges")
        to_centerness = Conv(1, (3, 3), kernel_init=small, name="centerness")
        scale = self.param("scale", nn.initializers.ones, (len(self.strides),))

        parts = []
        for level, (stride, features) in enumerate(zip(self.strides, maps, strict=True)):
            batch, height, width, _ = features.shape
            centre = jnp.asarray(grid(height, width, stride))
            edges = edge(features)
            # A learned scale a level, in strides; the exponent is held where it cannot overflow.
            reach = jnp.exp(jnp.clip(scale[level] * to_edges(edges).astype(jnp.float32), -8.0, 8.0))
            reach = 2.0 * stride * reach.reshape(batch, -1, 4)
            boxes = jnp.concatenate([centre - reach[..., :2], centre + reach[..., 2:]], -1)
            logits = to_logits(sort(features)).reshape(batch, -1, self.classes)
            centerness = to_centerness(edges).reshape(batch, -1)
            spacing = jnp.full(len(centre), stride, jnp.float32)
            parts.append(Places(centre, spacing, logits, boxes, centerness))
        axes = (0, 0, 1, 1, 1)
        joined = zip(zip(*parts, strict=True), axes, strict=True)
        return Places(*(jnp.concatenate(levels, axis) for levels, axis in joined))
