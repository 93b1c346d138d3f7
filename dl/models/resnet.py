"""Residual networks."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.models.convolution import Conv, max_pool
from dl.models.layers import Dense, Dropout, remat_policy

_kernel = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_Conv = partial(Conv, use_bias=False, kernel_init=_kernel)


def _same(size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding of the published networks, the same on both sides also where the stride is 2."""
    return ((size // 2, size // 2),) * 2


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside the identity (He et al. 2016). The last norm starts at 0, so a block
    starts as the identity (Goyal et al. 2017)."""

    width: int
    stride: int = 1
    expansion = 1

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        stride = (self.stride, self.stride)
        h = nn.relu(norm()(_Conv(self.width, (3, 3), stride, padding=_same(3))(x)))
        h = _Conv(self.width, (3, 3), padding=_same(3))(h)
        h = norm(scale_init=nn.initializers.zeros)(h)
        if x.shape != h.shape or self.stride > 1:
            x = norm(name="shortcut_norm")(_Conv(self.width, (1, 1), stride, name="shortcut")(x))
        return nn.relu(x + h)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last four times as wide (He et al. 2016; the stride is the
    3x3's, "ResNet v1.5")."""

    width: int
    stride: int = 1
    expansion = 4

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        stride, wide = (self.stride, self.stride), self.width * self.expansion
        h = nn.relu(norm()(_Conv(self.width, (1, 1))(x)))
        h = nn.relu(norm()(_Conv(self.width, (3, 3), stride, padding=_same(3))(h)))
        h = norm(scale_init=nn.initializers.zeros)(_Conv(wide, (1, 1))(h))
        if x.shape != h.shape or self.stride > 1:
            x = norm(name="shortcut_norm")(_Conv(wide, (1, 1), stride, name="shortcut")(x))
        return nn.relu(x + h)


class ResNetFeatures(nn.Module):
    """The stages of a residual network without its classifier.

    Input ``[batch, height, width, channels]``; output the feature maps of every stage, the finest
    first: strides 4, 8, 16, 32 of the input, or 1, 2, 4, 8 with ``small_images``.

    Attributes:
      stages: blocks of each stage; block: :class:`BasicBlock` or :class:`Bottleneck`.
      width: channels of the first stage, doubled from stage to stage; or those of each stage.
      small_images: a 3x3 stem of stride 1 (CIFAR) instead of 7x7 of stride 2 and a pool.
      stem: its channels; by default those of the first stage.
    """

    stages: Sequence[int] = (2, 2, 2, 2)
    block: Callable[..., nn.Module] = BasicBlock
    width: int | Sequence[int] = 64
    small_images: bool = False
    stem: int | None = None

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        widths = self.width
        if isinstance(widths, int):
            widths = [widths * 2**stage for stage in range(len(self.stages))]
        stem = self.stem or widths[0]
        if self.small_images:
            x = _Conv(stem, (3, 3), padding=_same(3), name="stem")(x)
        else:
            x = _Conv(stem, (7, 7), (2, 2), padding=_same(7), name="stem")(x)
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9, name="stem_norm")(x))
        if not self.small_images:
            x = max_pool(x, (3, 3), strides=(2, 2), padding=_same(3))

        def run(block, x):
            return block(x, train=train)

        if policy := remat_policy():
            run = nn.remat(run, policy=policy)
        features = []
        for stage, (count, width) in enumerate(zip(self.stages, widths, strict=True)):
            for place in range(count):
                stride = 2 if stage > 0 and place == 0 else 1
                x = run(self.block(width, stride), x)
            features.append(x)
        return features


class ResNet(nn.Module):
    """Residual network (He et al. 2016, "Deep residual learning for image recognition"): pictures
    ``[batch, height, width, channels]`` to logits ``[batch, classes]``; attributes as in
    :class:`ResNetFeatures`, and the ``dropout`` before the classifier. 0 ``classes`` give what that would read."""

    classes: int
    stages: Sequence[int] = (2, 2, 2, 2)
    block: Callable[..., nn.Module] = BasicBlock
    width: int | Sequence[int] = 64
    small_images: bool = False
    dropout: float | jax.Array = 0.0
    stem: int | None = None

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        given = self.stages, self.block, self.width, self.small_images, self.stem
        x = jnp.mean(ResNetFeatures(*given)(x, train=train)[-1], axis=(1, 2))
        x = Dropout(self.dropout)(x, train=train)
        return Dense(self.classes)(x) if self.classes else x


ResNet18 = partial(ResNet, stages=(2, 2, 2, 2), block=BasicBlock)
ResNet34 = partial(ResNet, stages=(3, 4, 6, 3), block=BasicBlock)
ResNet50 = partial(ResNet, stages=(3, 4, 6, 3), block=Bottleneck)
ResNet101 = partial(ResNet, stages=(3, 4, 23, 3), block=Bottleneck)
