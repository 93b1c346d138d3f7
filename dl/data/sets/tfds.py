"""Any data set of TensorFlow Datasets, as ``tfds:NAME``.

Prepared sets are read by random access, without TensorFlow; only preparing one may need it.
"""

import dataclasses
import difflib
import hashlib
import os
import socket
import urllib.parse
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.readers.csv_text import first_line
from dl.data.readers.files import data_folder, digest_files, progress
from dl.data.readers.pictures import fit, read_classes, read_pixels
from dl.data.splits import Columns, Info, Splits, hold_out, take


def load_tfds(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    validation: int | float | None = None,
    seed: int = 0,
) -> Splits:
    """The data set ``name``, ``name/config`` or ``name@64`` of TensorFlow Datasets, whole in memory.

    Looked up in ``<data_dir>/tfds`` and in TFDS's own folder, else downloaded and prepared in the
    first. Its ``validation`` and ``test`` splits are taken as they are; without a validation split, a
    tenth of ``train`` is held out by seed, and without a test split test is empty. ``@64`` fits every
    picture to 64 x 64 (scaled to cover, cut to the middle), for sets whose pictures differ in size.
    Pictures are read by :mod:`dl.data.readers.pictures`: upright, unless the set has boxes or label images,
    which lie on the pixels as they are stored. Label images keep their numbers.

    Raises UserError for an unknown name, for a set that cannot be prepared here, and for features
    that differ in shape from row to row.
    """
    title, name, side = f"tfds:{name}", *_size(name)
    builder = _prepared(name, data_dir)
    found = builder.info.splits
    decoders, masks, boxes = _pictures(builder.info.features, title)
    if side and boxes:
        warnings.warn(
            f"{title}: {', '.join(boxes)} are of the whole pictures, of which @{side} cuts the middle",
            stacklevel=2,
        )
    if "train" not in found:
        raise UserError("part-empty", f"{title} has no train split, only {', '.join(found)}")

    def part(split: str) -> Columns:
        if split not in found:
            return {}
        source = builder.as_data_source(split=split, decoders=decoders)
        return read_source(source, f"{title} {split}", side, masks)

    train, held, test = part("train"), {}, part("test")
    if validation is None and "validation" in found:
        held = part("validation")
    else:
        label = train.get("label", np.zeros(0))
        strata = label if label.ndim == 1 and label.dtype == np.int32 else None
        share = 0.1 if validation is None else validation
        kept, out = hold_out(len(next(iter(train.values()))), share, seed, strata)
        train, held = take(train, kept), take(train, out) if len(out) else {}
    return Splits(train, held, test, _info(title, builder, side))


def _size(name: str) -> tuple[str, int | None]:
    """``('mnist', 64)`` of ``mnist@64``."""
    name, at, size = name.partition("@")
    if at and not (size.isdigit() and int(size) > 0):
        raise UserError(
            "tfds-picture-size",
            f"after tfds:{name}@ comes a picture size in pixels, such as 64, not {size!r}",
        )
    return name, int(size) if at else None


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """Rows of one prepared split by random access; ``files`` are all it is stored in."""

    rows: Any
    split: str
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.rows[row]

    def digest(self) -> str:
        """SHA-256 (hex) of the files' contents and of which rows of them these are."""
        content = f"{digest_files(self.files)} {self.split} {len(self)}"
        return hashlib.sha256(content.encode()).hexdigest()


def open_source(name: str, split: str, data_dir: str | os.PathLike | None = None) -> TfdsSource:
    """One split for :mod:`dl.data.batches.streams`: ``source[i]`` is a dict of arrays, ``len(source)`` rows."""
    builder = _prepared(name, data_dir)
    decoders, _, _ = _pictures(builder.info.features, f"tfds:{name}")
    rows = builder.as_data_source(split=split, decoders=decoders)
    files = tuple(str(path) for path in builder.info.splits[split].filepaths)
    return TfdsSource(rows, split, files)


@dataclasses.dataclass
class _PictureDecoder:
    """What TFDS asks in place of its own decoder of a picture, which neither turns nor converts it.

    It has the two methods of ``tfds.decode.Decoder`` that are called without TensorFlow.
    """

    name: str
    mode: str
    """of :func:`read_pixels`; empty for a label image"""
    upright: bool

    def setup(self, *, feature) -> None:
        """TFDS says here whose decoder this is."""

    def decode_example_np(self, data: bytes) -> np.ndarray:
        if not self.mode:
            return read_classes(data, self.name)[..., None]
        return read_pixels(data, self.name, self.mode, upright=self.upright)


def _pictures(features, title: str) -> tuple[dict[str, Any], set[str], list[str]]:
    """``(decoders, label images, boxes)`` of a set: decoders as TFDS wants them, nested as the features
    are, and the others' names as ``a/b``."""
    import tensorflow_datasets as tfds

    def leaves(tree, prefix="", sequences=False):
        for name, feature in tree.items():
            while sequences and isinstance(feature, tfds.features.Sequence):
                feature = feature.feature
            if isinstance(feature, tfds.features.FeaturesDict):
                yield from leaves(feature, f"{prefix}{name}/", sequences)
            else:
                yield prefix + name, feature

    flat = dict(leaves(features))
    pictures = {name: f for name, f in flat.items() if isinstance(f, tfds.features.Image)}
    masks = {
        name
        for name, f in pictures.items()
        if f.shape[-1] == 1
        and (isinstance(f, tfds.features.LabeledImage) or f.use_colormap or f.np_dtype == np.uint16)
    }
    inside = leaves(features, sequences=True)
    boxes = [name for name, f in inside if isinstance(f, tfds.features.BBoxFeature)]
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    decoders: dict[str, Any] = {}
    for name, feature in pictures.items():
        mode = modes.get(feature.shape[-1]) if len(feature.shape) == 3 else None
        if name not in masks and (mode is None or feature.np_dtype != np.uint8):
            continue  # floats packed into bytes, 16-bit colours: TFDS knows them better
        *above, last = name.split("/")
        place = decoders
        for part in above:
            place = place.setdefault(part, {})
        what = f"a picture of {title} ({name})"
        place[last] = _PictureDecoder(
            what, "" if name in masks else mode or "", not masks and not boxes
        )
    return decoders, masks, boxes


def read_source(source, what: str, side: int | None = None, masks: Collection[str] = ()) -> Columns:
    """Every row of a random-access source as columns ``[rows, ...]``, nested features as ``a/b``.

    Integers become int32, text strings; pictures are brought to ``side`` x ``side`` pixels if given,
    those among ``masks`` by taking the nearest pixel's number.
    """
    size = len(source)
    if not size:
        raise UserError("part-empty", f"{what} is empty")
    arrays: dict[str, np.ndarray] = {}
    texts: dict[str, list[str]] = {}
    for place in progress(range(size), f"reading {what}", size):
        for name, value in _flat(source[place]):
            value = np.asarray(value)
            if value.dtype.kind in "OSU" and value.ndim == 0:
                texts.setdefault(name, []).append(_text(value.item()))
                continue
            if side and value.ndim == 3 and (value.dtype == np.uint8 or name in masks):
                value = fit(value, side, side, nearest=name in masks)
            if place == 0:
                arrays[name] = np.empty((size, *value.shape), value.dtype)
            if value.shape != arrays[name].shape[1:] or value.dtype.kind in "OSU":
                raise UserError(
                    "row-shapes-differ",
                    f"{what}: {name!r} differs in shape from row to row. Pictures: add a size to the "
                    "name, such as tfds:NAME@64; others: stream with dl.data.batches.streams and a decode "
                    "function that brings them to one shape",
                )
            arrays[name][place] = value
    wide = (np.int64, np.uint64, np.int16, np.uint16)
    narrow = {n: a.astype(np.int32) if a.dtype in wide else a for n, a in arrays.items()}
    return narrow | {name: np.array(values) for name, values in texts.items()}


def _flat(row: dict, prefix: str = ""):
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _text(value) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def describe_tfds(name: str) -> Info:
    """What TensorFlow Datasets says of ``name``, without preparing it."""
    name, side = _size(name)
    return _info(f"tfds:{name}", _builders(name, None)[0], side)


def _builders(name: str, data_dir) -> list:
    """TFDS's builder of ``name`` in our folder, and the one in its own."""
    import tensorflow_datasets as tfds

    own = str(data_folder(data_dir) / "tfds")
    try:
        return [
            tfds.builder(name, data_dir=place, file_format=tfds.core.FileFormat.ARRAY_RECORD)
            for place in (own, None)
        ]
    except tfds.core.DatasetNotFoundError:
        near = difflib.get_close_matches(
            name, tfds.list_builders(with_community_datasets=False), n=3, cutoff=0.5
        )
        hint = (
            f"did you mean {' or '.join(near)}?" if near else "see tensorflow.org/datasets/catalog"
        )
        raise UserError("unknown", f"TensorFlow Datasets has no set {name!r}: {hint}") from None
    except (ValueError, ImportError, AssertionError) as error:
        said = f"cannot open tfds:{name}: {first_line(error)}"
        raise UserError("tfds-unreadable", said) from None


def _prepared(name: str, data_dir):
    """A builder whose data lies ready for random access, prepared now if it was not."""
    builders = _builders(name, data_dir)
    for builder in builders:
        if builder.is_prepared() and builder.info.file_format.value == "array_record":
            return builder
    builder = builders[0]
    own, theirs = (Path(b.data_dir_root) for b in builders)
    downloaded = any((own / "downloads").glob("**/*.INFO"))  # TFDS marks finished files so
    if not downloaded and (host := _out_of_reach(builder)):
        raise UserError(
            "tfds-not-prepared",
            f"tfds:{name} is not prepared in {own} nor in {theirs}, and {host} "
            "cannot be reached to download it. Prepare it on a machine with a network and copy the folder",
        )
    try:
        builder.download_and_prepare(file_format="array_record")
    except ImportError as error:
        raise UserError(
            "package-missing",
            f"preparing tfds:{name} needs a package that is not here ({error.name or error}): "
            "pip install -e '.[tfds]' in the checkout of dl. Reading it afterwards needs none",
        ) from None
    except Exception as error:  # TFDS and its generators raise anything at all
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            "tfds-not-prepared",
            f"cannot prepare tfds:{name} in {builder.data_dir} ({type(error).__name__}: {first[:200]}). "
            "Prepare it on a machine with a network and pip install -e '.[tfds]' there, then copy the folder",
        ) from None
    return builder


def _out_of_reach(builder) -> str | None:
    """The host of the downloads if no name server knows any of them: TFDS itself would go on trying
    for minutes."""
    hosts = sorted({urllib.parse.urlsplit(url).hostname or "" for url in builder.url_infos})
    for host in hosts:
        try:
            socket.getaddrinfo(host, 443)
            return None
        except OSError:
            continue
    return hosts[0] if hosts else None


def _info(name: str, builder, side: int | None) -> Info:
    features = builder.info.features
    try:
        classes = tuple(features["label"].names or ())
    except (KeyError, TypeError, AttributeError):  # no label, or one without names
        classes = ()
    lines = (builder.info.description or "").strip().split("\n\n")
    return Info(
        name=name,
        title=str(builder.info.full_name),
        source=str(builder.info.homepage or "TensorFlow Datasets"),
        licence=str(builder.info.redistribution_info.license or "see its home page"),
        task="classification" if classes else "see its home page",
        description=" ".join(lines[0].split())
        + (f" Pictures fitted to {side} x {side}." if side else ""),
        classes=classes,
    )
