"""Networks that tell the class of a picture, at usual sizes, by their names."""

from collections.abc import Sequence
from typing import Literal, get_args

import flax.linen as nn
import jax

from dl.core.errors import UserError, bounded, unknown
from dl.models.cnn import CNN
from dl.models.convnext import ConvNeXt
from dl.models.mixer import Mixer
from dl.models.resnet import ResNet
from dl.models.transformer import Transformer
from dl.models.vit import ViT

PictureModel = Literal["cnn", "resnet", "convnext", "vit", "mixer"]
USUAL: dict[str, tuple[tuple[int, ...], int]] = {  # widths of the stages, layers of each
    "cnn": ((24, 48, 96, 192), 1),
    "resnet": ((32, 64, 128, 256), 1),
    "convnext": ((32, 64, 128), 2),
    "vit": ((64,), 6),
    "mixer": ((64,), 6),
}


def picture_classifier(
    kind: str,
    classes: int,
    size: tuple[int, int],
    *,
    widths: Sequence[int] = (),
    depth: int | None = None,
    patch: int | None = None,
    dropout: float | jax.Array = 0.0,
) -> nn.Module:
    """One of the networks for pictures of ``size``, height and width.

    Args:
      classes: outputs; 0 for a network that gives what its classifier would read.
      widths: channels of each stage, of which ``vit`` and ``mixer`` have one; depth: layers of a stage, which are
        convolutions of ``cnn`` and blocks of the others. Without them, usual ones.
      patch: pixels of a patch's side, for all but ``cnn`` and ``resnet``; by default those by which 8 x 8 patches
        or fewer are left of pictures up to 64 high or wide and 16 x 16 of larger ones; 16 and 64 of ``convnext``.
      dropout: rate before the classifier, or after every branch of ``vit`` and ``mixer``.

    Raises:
      UserError: what is asked for is not of this network, or no patch fits the pictures.
    """
    if kind not in USUAL:
        raise unknown("model", kind, get_args(PictureModel))
    widths = tuple(widths) or USUAL[kind][0]
    depth = USUAL[kind][1] if depth is None else depth
    bounded("--depth", depth, at_least=1)
    bounded("--widths", min(widths), at_least=1)
    bounded("--patch", patch, at_least=1)
    if patch is not None and kind in ("cnn", "resnet"):
        raise UserError("option-misplaced", f"--patch is not of {kind}: leave it out")
    if len(widths) > 1 and kind in ("vit", "mixer"):
        raise UserError("option-misplaced", f"all layers of {kind} have one width: give one number")
    depths = (depth,) * len(widths)
    if kind == "cnn":
        return CNN(classes, widths, depth, dropout)
    if kind == "resnet":
        return ResNet(classes, depths, width=widths, small_images=max(size) <= 64, dropout=dropout)
    small, large = (16, 64) if kind == "convnext" else (8, 16)
    patch = _fitting(size, small if max(size) <= 64 else large) if patch is None else patch
    if kind == "convnext":
        return ConvNeXt(classes, widths, depths, patch, dropout)
    if kind == "mixer":
        return Mixer(classes, widths[0], depth, patch, dropout)
    heads = max(n for n in range(1, max(2, widths[0] // 32 + 1)) if widths[0] % n == 0)
    return ViT(classes, Transformer(widths[0], depth, heads, dropout=dropout), patch)


def _fitting(size: tuple[int, int], most: int) -> int:
    """The smallest side of patches that a picture is a multiple of, of which it has so many a side at most."""
    for side in range(1, min(size) + 1):
        if not any(length % side for length in size) and max(size) <= most * side:
            return side
    height, width = size
    raise UserError(
        "indivisible",
        f"pictures of {height} x {width} cannot be cut into square patches, {most} a side at most: bring them to "
        "a size such as --size 32 or 224",
    )
