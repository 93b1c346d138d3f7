"""The one reader of pictures: what a person sees of a file, as numbers.

All that decodes a picture comes here: :func:`read_pixels` for pictures, :func:`read_classes` for label
images, whose numbers are classes and no colours.
"""

import io
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.files import progress

PictureFile = str | os.PathLike | bytes | BinaryIO
Fit = Literal["cut", "pad", "stretch"]

# Kinds that draw by running a program, which no file of a data set may.
_PROGRAMS = ("EPS", "EMF", "WMF")
# EXIF's tag of how the camera was held, and the values under which the sides change places.
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


def read_pixels(
    file: PictureFile,
    name: str | None = None,
    mode: str = "RGB",
    *,
    background: int | tuple[int, int, int] = 255,
    upright: bool = True,
    least: int | Callable[[int, int], int] = 0,
) -> np.ndarray:
    """A picture as people see it: uint8 ``[height, width, channels]``.

    - It is turned as its EXIF orientation says.
    - 16-bit grey is scaled from its whole range, 0..65535; 32-bit whole numbers likewise, where all
      lie in that range. Floats in 0..1 are scaled by 255; others in 0..255 are rounded, with a warning.
    - What is transparent shows the ``background``, by default white.
    - Palettes, CMYK (Adobe's inverted CMYK too), YCbCr and 1-bit pictures become ``mode``. Colour
      profiles are not applied.
    - Of several frames (an animation, a TIFF of pages) the first is read, with a warning.

    The kind of the file is found by its content and not by its name.

    Args:
      file: a path, the bytes of a file, or an open binary file.
      name: what an error calls it; by default the path.
      mode: ``"RGB"``, ``"L"`` (grey, one channel) or ``"RGBA"``, which keeps transparency.
      background: grey value or (red, green, blue) in 0..255.
      upright: False leaves the pixels as they are stored, which is what boxes and label images
        beside a picture refer to. (Pillow turns TIFF files in any case.)
      least: where above 0, a JPEG is decoded at a half, fourth or eighth of its size, which takes less time, as
        long as both sides keep so many pixels; or a function of its height and width.

    Raises:
      UserError: the file is absent, cut off, damaged, no picture, or too large.
    """
    given: Any = {"background": background, "upright": upright, "least": least}
    pixels = np.asarray(read_picture(file, name, mode, **given))
    return pixels.reshape(*pixels.shape[:2], -1)


def read_picture(
    file: PictureFile,
    name: str | None = None,
    mode: str = "RGB",
    *,
    background: int | tuple[int, int, int] = 255,
    upright: bool = True,
    least: int | Callable[[int, int], int] = 0,
) -> Any:
    """:func:`read_pixels` as a Pillow image of that ``mode``."""
    from PIL import Image

    name = _called(file, name)
    picture = _decoded(file, name, upright, least=least)
    if picture.mode == "LAB":
        raise UserError(
            "picture-colours", f"{name} has CIELAB colours, which are not read: convert it to RGB"
        )
    if picture.mode == "F" or picture.mode.startswith("I"):
        picture = _eight_bits(picture, name)
    if mode != "RGBA" and picture.has_transparency_data:
        fill = background if isinstance(background, tuple) else (background,) * 3
        under = Image.new("RGBA", picture.size, (*fill, 255))
        picture = Image.alpha_composite(under, picture.convert("RGBA"))
    return picture if picture.mode == mode else picture.convert(mode)


def read_classes(file: PictureFile, name: str | None = None) -> np.ndarray:
    """A label image's numbers as they are stored: ``[height, width]``, uint8, uint16 or int32.

    A palette's numbers are read, not its colours, and 1-bit images hold 0 and 1. Pixels are not
    turned: they lie as those of ``read_pixels(..., upright=False)``.

    Raises:
      UserError: as :func:`read_pixels`, and where a pixel has several channels or the file is a JPEG,
        which does not keep numbers as they are.
    """
    name = _called(file, name)
    picture = _decoded(file, name, upright=False)
    if picture.format in ("JPEG", "MPO"):
        raise UserError(
            "label-image-jpeg",
            f"{name} is a JPEG, which blurs numbers into their neighbours: save the label image as PNG",
        )
    if picture.mode not in ("1", "L", "P", "I", "F") and not picture.mode.startswith("I;16"):
        raise UserError(
            "label-image-mode",
            f"{name} is a picture of mode {picture.mode}, not a label image: save the classes as grey "
            "values or as the numbers of a palette",
        )
    numbers = np.asarray(picture)
    if picture.mode == "F":
        if len(odd := numbers[~(np.mod(numbers, 1) == 0)]):
            said = f"{name} holds {odd[0]:g}: the number of a class is a whole one"
            raise UserError("mask-value", said)
        return numbers.astype(np.int32)
    if numbers.dtype == bool:
        return numbers.astype(np.uint8)
    return numbers.astype(numbers.dtype.newbyteorder("="))  # big-endian TIFF files too


def decode_images(
    encoded: Sequence[bytes],
    what: str,
    mode: str = "RGB",
    *,
    names: Sequence[str] | None = None,
    upright: bool = True,
) -> np.ndarray:
    """Pictures of one size, read by :func:`read_pixels`: uint8 ``[n, height, width, channels]``.

    Args:
      encoded: the bytes of each file.
      what: the set's title, for the progress bar and errors.
      names: of the files, for errors; by default their numbers.
    """
    images = None
    for place, data in enumerate(progress(encoded, f"decoding {what}", len(encoded))):
        name = f"{what}, {names[place] if names else f'picture {place}'}"
        image = read_pixels(data, name, mode, upright=upright)
        if images is None:
            images = np.empty((len(encoded), *image.shape), np.uint8)
        if image.shape != images.shape[1:]:
            (height, width), (first, across) = image.shape[:2], images.shape[1:3]
            raise UserError(
                "picture-sizes-differ",
                f"{name} is {width} x {height} pixels large, the first picture {across} x {first}: "
                "bring all to one size",
            )
        images[place] = image
    if images is None:
        raise UserError("no-pictures", f"{what} has no pictures")
    return images


def fit(
    image: np.ndarray,
    height: int,
    width: int,
    how: Fit = "cut",
    *,
    nearest: bool = False,
    fill: int = 0,
) -> np.ndarray:
    """A picture ``[height, width, channels]`` brought to a size.

    Args:
      how: ``cut`` scales it to cover the size and cuts it to its middle; ``pad`` scales it to lie within,
        amid ``fill``; ``stretch`` scales its sides apart.
      nearest: values are taken as they are, for label images, in place of bicubic interpolation.
    """
    from PIL import Image, ImageOps

    picture, size = (
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image),
        (width, height),
    )
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC
    if how == "pad":
        colour = fill if image.shape[-1] == 1 else (fill,) * image.shape[-1]
        fitted = ImageOps.pad(picture, size, method, colour)
    else:
        stretched = how == "stretch"
        fitted = picture.resize(size, method) if stretched else ImageOps.fit(picture, size, method)
    return np.asarray(fitted).reshape(height, width, image.shape[-1])


class Header(NamedTuple):
    """What the first bytes of a picture tell: sides in pixels, and whether it is grey."""

    height: int
    width: int
    grey: bool


def read_header(file: PictureFile, name: str | None = None, *, upright: bool = True) -> Header:
    """The sides of a picture, as :func:`read_pixels` would give it, and whether it is grey, without decoding.

    Raises:
      UserError: as :func:`read_pixels`, but for what is wrong beyond the file's beginning.
    """

    def look(picture: Any) -> Header:
        height, width = _sides(picture, upright)
        grey = picture.mode in ("1", "L", "LA", "F") or picture.mode.startswith("I")
        return Header(height, width, grey)

    return _decoded(file, _called(file, name), upright, look)


def _sides(picture: Any, upright: bool) -> tuple[int, int]:
    """Height and width of a picture that is not decoded yet."""
    turned = upright and picture.getexif().get(_ORIENTATION) in _TURNED
    return picture.size if turned else picture.size[::-1]


def _called(file: PictureFile, name: str | None) -> str:
    if name is not None:
        return name
    return os.fspath(file) if isinstance(file, str | os.PathLike) else "the picture"


def _decoded(
    file: PictureFile,
    name: str,
    upright: bool,
    look: Callable[[Any], Any] | None = None,
    least: int | Callable[[int, int], int] = 0,
) -> Any:
    """The first frame as a Pillow image in memory, or ``look(picture)`` of the one that is not decoded;
    whatever Pillow finds wrong is a UserError."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if isinstance(file, bytes) and not file:
        raise _unreadable(name, "is empty")
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
            if picture.format in _PROGRAMS:
                raise _unreadable(name, f"is drawn by a program ({picture.format})")
            if look is not None:
                return look(picture)
            if callable(least):
                least = least(*_sides(picture, upright))
            if least:
                picture.draft(picture.mode, (least, least))
            # A photograph's second frame (MPO) is a preview or a map of depths.
            if picture.format != "MPO" and getattr(picture, "is_animated", False):
                warnings.warn(
                    "of a picture with several frames (an animation, a TIFF of pages) the first is read",
                    stacklevel=3,
                )
            picture.load()
            if upright:
                ImageOps.exif_transpose(picture, in_place=True)
            return picture
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError("file-missing", f"there is no picture {name}") from None
    except UnidentifiedImageError:
        empty = not isinstance(file, bytes) and _size(file) == 0
        what = "is empty" if empty else "is not a picture of a kind that Pillow reads"
        raise _unreadable(name, what) from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(
            "picture-too-large",
            f"{name} says that it has more than {most:,} pixels, which may exhaust the memory: make it "
            "smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it",
        ) from None
    except MemoryError:
        raise UserError(
            "picture-too-large", f"{name} does not fit into memory: make it smaller"
        ) from None
    except Exception as error:  # Pillow's decoders raise all kinds over damaged bytes
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(
                "file-read", f"cannot read the picture {name}: {error.strerror}"
            ) from None
        reason = str(error).strip() or type(error).__name__
        raise _unreadable(name, f"is cut off or damaged ({reason})") from None


def _unreadable(name: str, what: str) -> UserError:
    return UserError(
        "picture-damaged", f"{name} {what}: replace it with a PNG or JPEG file, or take it away"
    )


def _size(file) -> int | None:
    """Bytes of a file, or None where that cannot be told."""
    try:
        if isinstance(file, str | os.PathLike):
            return os.path.getsize(file)
        return file.seek(0, os.SEEK_END)
    except (OSError, ValueError):
        return None


def _eight_bits(picture: Any, name: str) -> Any:
    """A grey picture of 16-bit, 32-bit or float values as Pillow's 8-bit ``L``, or ``LA`` where one
    value stands for transparent."""
    from PIL import Image

    values = np.asarray(picture)
    if not values.size or not np.isfinite(values).all():
        raise UserError("infinity", f"{name} has values that are not finite: save it as 8-bit grey")
    low, high = values.min(), values.max()
    if picture.mode == "F":
        if low < 0 or high > 255:
            raise UserError(
                "pixels-range",
                f"{name} has floats from {low:.4g} to {high:.4g}, of no known range: scale them to 0..1 "
                "or save it as 8-bit grey",
            )
        if high > 1:
            warnings.warn("floats of a picture beyond 1 are read as 0..255, not 0..1", stacklevel=3)
        grey = np.rint(values * (255.0 if high <= 1 else 1.0))
    else:
        if low < 0 or high > 65535:
            raise UserError(
                "pixels-range",
                f"{name} has whole numbers from {low} to {high}, beyond 16 bits: scale them to 0..65535 "
                "or save it as 8-bit grey",
            )
        grey = (values.astype(np.uint32) + 128) // 257
        # Pillow leaves 16-bit TIFF files whose 0 is white as they are stored.
        if picture.format == "TIFF" and picture.tag_v2.get(262) == 0:
            grey = 255 - grey
    shown = Image.fromarray(grey.astype(np.uint8))
    see_through = picture.info.get("transparency")
    if isinstance(see_through, int):
        opaque = np.where(values == see_through, 0, 255).astype(np.uint8)
        shown = Image.merge("LA", (shown, Image.fromarray(opaque)))
    return shown
