"""Files to predict for, read as the run's own data were; in the place of labels stands what says nothing."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl.core.errors import UserError
from dl.data.batches.streams import DecodeImage, FileRows
from dl.data.own.asked import Unlabelled, clips, numbered, purchases, questions, records, tables_of
from dl.data.own.boxes import DecodeBoxed, within
from dl.data.own.columns import OwnCells, column_of_paths, which_column
from dl.data.own.found import Line, column_called, own_info, sheet_options, show
from dl.data.own.lines import TEXTS, lengths, lines_of, text_of, text_table, texts_column
from dl.data.own.masks import DecodeMasked
from dl.data.own.paths import SOUNDS, Named, ends, files_in, files_under, is_table
from dl.data.own.picture_tables import IMAGES
from dl.data.own.pixels import headers_of
from dl.data.own.sounds import PATHS, DecodeSound, sound_header
from dl.data.own.tested import with_fields
from dl.data.readers.clouds import CLOUDS, fitted, read_cloud
from dl.data.readers.csv_text import plain
from dl.data.readers.files import for_each
from dl.data.readers.frames import read_frame, words
from dl.data.readers.picture_folders import PICTURES
from dl.data.splits import Columns, Splits, known, take


def read_unlabelled(files: Sequence[Path], splits: Splits, /, **fields: Any) -> Unlabelled:
    """The rows of ``files``, of the kind of ``splits``, in the order given.

    Pictures and recordings are files, folders of them, or tables that name them, and are read when they are
    needed; rows and texts are those of tables; texts are lines of other files too. ``fields`` of the kind say
    where these files are written otherwise.

    Raises:
      UserError: there is no such field, or a file is not there, cannot be read or is of another kind.
    """
    details = splits.info.details
    kind, own = details["kind"], details["own"]
    if kind == "purchases":  # by all that is known of a customer
        own = dataclasses.replace(own, cut=None)
    own = with_fields(own, fields)
    if kind not in _READ:
        raise UserError(
            "set-of-another-kind",
            f"files are predicted for by what was trained on {', '.join(_READ)}, and this was trained on {kind}: "
            "give the columns that its script prepares to run.predict",
        )
    for path in files:
        if not path.exists():
            raise UserError("file-missing", f"there is no file or folder {path} to predict for")
    return _READ[kind](files, own, splits)


# -- pictures ----------------------------------------------------------------------------------------


def _pictures(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    paths, mode, (height, width), _ = _seen(files, own, splits)
    label = np.zeros(len(paths), np.int32)
    decode = DecodeImage(height, width, mode=mode, how=getattr(own, "fit", "cut"))
    return Unlabelled(FileRows({"file": paths, "label": label}, decode), {"file": paths})


def _masks(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    from PIL import Image

    paths, mode, (height, width), sizes = _seen(files, own, splits, upright=False)
    decode = DecodeMasked(height, width, splits.info.details.get("scale"), mode, (0,), ())
    columns = {"file": paths, "mask": np.full(len(paths), "", object)}

    def back(row: int, classes: np.ndarray) -> np.ndarray:
        tall, wide = decode.sides(sizes[row])
        top, left = (height - tall) // 2, (width - wide) // 2
        inner = Image.fromarray(classes[top : top + tall, left : left + wide].astype(np.uint8))
        return np.asarray(inner.resize(sizes[row, ::-1].tolist(), Image.Resampling.NEAREST))

    return Unlabelled(FileRows(columns, decode), {"file": paths}, back)


def _boxes(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    paths, mode, (height, width), sizes = _seen(files, own, splits, upright=False)
    count = known(splits.train)["label"].shape[1]
    columns: Columns = {"file": paths, "boxes": np.zeros((len(paths), count, 4), np.float32)}
    columns["label"] = np.full((len(paths), count), -1, np.int32)

    def back(row: int, boxes: np.ndarray) -> np.ndarray:
        tall, wide = sizes[row]
        top, left, inner_tall, inner_wide = within((tall, wide), height, width)
        moved = (boxes - (left, top) * 2) * ((wide / inner_wide, tall / inner_tall) * 2)
        return moved.clip(0, (wide, tall) * 2)

    return Unlabelled(FileRows(columns, DecodeBoxed(height, width, mode)), {"file": paths}, back)


def _seen(
    files: Sequence[Path], own: Any, splits: Splits, upright: bool = True
) -> tuple[np.ndarray, str, tuple[int, int], np.ndarray]:
    """The pictures' paths, the mode and size to bring them to, and the sizes ``[n, 2]`` that they have."""
    height, width, channels = take(splits.train, slice(1))["image"].shape[1:]
    paths = _paths(files, own, PICTURES, getattr(own, "image", None), IMAGES, "pictures")
    headers = headers_of(paths.tolist(), upright=upright)
    if channels == 1 and (coloured := np.flatnonzero(headers[:, 2] == 0)).size:
        raise UserError(
            "picture-channels",
            f"{paths[coloured[0]]} has colours, and training had grey pictures: make them grey",
        )
    return paths, "L" if channels == 1 else "RGB", (height, width), headers[:, :2]


def _paths(files, own, endings, column, guesses, what) -> np.ndarray:
    """The paths ``[files]`` of files, of those in folders, and of those that tables name."""
    found: list[str] = []
    for path in files:
        if path.is_dir():
            found += [str(path / below) for below in files_under(path, endings)]
        elif ends(path, endings):
            found.append(str(path))
        elif is_table(path):
            frame = read_frame(
                path, **sheet_options(own if hasattr(own, "separator") else OwnCells())
            )
            heading = column_of_paths(frame, column, endings, guesses, "its column")
            if heading is None:
                raise UserError(
                    "column-unnamed",
                    f"{frame.name} has no column of paths of {what}: call one "
                    f"{plain(column or guesses[0])} in its first line, or give the files themselves",
                )
            index = Named(path.parent, endings)
            for row, cell in enumerate(words(frame, heading)):
                there = [] if cell is None else index.all(cell)
                if len(there) != 1:
                    said = f"{cell} is not under {index.folder}, or there several times"
                    said = f"{frame.place(row)}: {said if cell else 'the cell is empty'}"
                    raise UserError("file-missing", f"{frame.name}, {said}")
                found.append(str(there[0]))
        else:
            raise UserError(
                "set-of-another-kind", f"{path} is none of the {what} that this run takes"
            )
    if not found:
        raise UserError("part-empty", f"there are no {what} in {', '.join(map(str, files[:3]))}")
    return texts_column(found)


# -- clouds -----------------------------------------------------------------------------------------


def _clouds(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    """Of each cloud the same points are drawn whichever others are beside it."""
    paths = _paths(files, own, CLOUDS, None, ("path", "cloud", "file"), "clouds")
    points = np.stack([fitted(read_cloud(Path(path)), own.points) for path in paths])
    return Unlabelled({"points": points, "label": np.zeros(len(paths), np.int32)}, {"file": paths})


# -- recordings --------------------------------------------------------------------------------------


def _recordings(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    rate = splits.info.details["rate"]
    paths = _paths(files, own, SOUNDS, own.path, PATHS, "recordings")

    def frames(path: str) -> int:
        info = sound_header(path, path)
        return int(info.frames * rate / info.samplerate + 0.5)

    length = np.array(
        [n for _, n in for_each(frames, paths.tolist(), "looking at recordings")], np.int32
    )
    samples = take(splits.train, slice(1))["waveform"].shape[1]
    columns: Columns = {"file": paths}
    if splits.info.details["kind"] == "transcripts":  # of which nothing is to be cut off
        samples = max(samples, int(length.max()))
        if "text" in known(splits.train):
            columns["text"] = texts_column([""] * len(paths))
        else:
            columns["label"] = np.full((len(paths), 1), -1, np.int32)
    else:
        columns["label"] = np.zeros(len(paths), np.int32)
    columns["length"] = np.minimum(length, samples).astype(np.int32)
    return Unlabelled(FileRows(columns, DecodeSound(rate, samples)), {"file": paths})


# -- rows --------------------------------------------------------------------------------------------


def _texts(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    trained = own.text or splits.info.details.get("text")
    asked = own.text != splits.info.details["own"].text
    texts, names = _text_rows(files, own, trained, TEXTS, "--text", asked)
    label = np.zeros(len(texts), np.int32)
    return Unlabelled({"text": texts_column(texts), "label": label}, names)


def _pairs(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    source = splits.info.details["languages"][0]
    guesses = (source, "source", "src", *TEXTS)
    asked = own.source != splits.info.details["own"].source
    texts, names = _text_rows(files, own, own.source, guesses, "--source", asked)
    empty = texts_column([""] * len(texts))
    return Unlabelled({"source": texts_column(texts), "target": empty}, names)


def _text_rows(files, own, given, guesses, flag, asked) -> tuple[list[str], Columns]:
    """The texts of files and where each stands; in the column ``given``, or where that was not ``asked`` for
    these files, in another that looks like it."""
    texts: list[str] = []
    counts = []
    every = [below for path in files for below in files_in(path)]
    for path in every:
        if path.suffix.lower() == ".txt" or not is_table(path):
            whole = path not in files  # in a folder a text each, as training takes such
            some = (
                [" ".join(text_of(path, own.encoding).split())]
                if whole
                else lines_of(path, own.encoding)
            )
        else:
            frame = text_table(path, own)
            heading = (
                given
                if given in frame.headings
                else column_called(frame, given if asked else None, guesses, flag)
            )
            sizes = lengths(frame)
            if heading is None and not sizes:
                raise UserError("text-unnamed", which_column(frame, "texts", flag))
            heading = heading or max(sizes, key=lambda name: sizes[name])
            if given and heading != given:
                told = Line(
                    f"column {heading}", "the texts", f"proposed: it has no column {plain(given)}"
                )
                show(own_info(path.name, "", {}, details={"lines": (told,)}))
            some = [cell or "" for cell in words(frame, heading)]
        texts += some
        counts.append(len(some))
    if not texts:
        raise UserError("part-empty", f"there are no texts in {', '.join(map(str, files[:3]))}")
    return texts, numbered(every, counts)


def _table(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    from dl.data.own.table import read_alike

    every, parts = tables_of(files), []
    label = known(splits.train)["label"].dtype
    for path in every:
        rows, lines = read_alike(path, splits.info, own)
        # A word that was never there, or is spelt otherwise, is as good as none: that is said.
        if new := [line for line in lines if line.taken_for == "missing"]:
            show(own_info(path.name, "", {}, details={"lines": tuple(new)}))
        count = len(rows["numerical"])
        parts.append({**rows, "label": np.zeros(count, label)})
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Unlabelled(whole, numbered(every, [len(part["label"]) for part in parts]))


def _series(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    """What follows each series: of the test part the steps ahead alone, which say nothing, and what a forecast
    sees before them."""
    from dl.data.own.series import read

    details = splits.info.details
    if "series" not in splits.train or len(files) != 1:
        said = "only series of files of yours are gone on with, in one file at a time"
        raise UserError("set-of-another-kind", f"{splits.info.title}: {said}")
    sees, ahead, known_ahead = details["look_back"], details["horizon"], "known" in splits.train
    # As long as a forecast sees is enough; of what is known ahead there are the steps ahead, too.
    sizes = (
        {"look_back": sees, "horizon": ahead}
        if known_ahead
        else {"look_back": sees - 1, "horizon": 1}
    )
    given = {
        "values": details["variables"],
        "split": None,
        "hold_out": (0.0, 0.0),
        "period": details["period"],
    }
    try:
        found = read(files[0], dataclasses.replace(own, **given, **sizes))
    except UserError as error:
        if error.code != "series-too-short":
            raise
        said = f"a forecast sees {sees} steps{' and what is known ahead' * known_ahead}"
        raise UserError(
            error.code, f"{files[0]}: {said}, and no series there has as many"
        ) from None
    names = found.info.details["names"]
    trained = names if len(names) == len(details["names"]) == 1 else details["names"]
    if new := [name for name in names if name not in trained]:
        raise UserError(
            "group-unseen",
            f"{files[0]} has series that were not there in training, such as {new[0]}",
        )
    number = np.array([trained.index(name) for name in names], np.int32)
    rows = found.rows
    last = np.append(np.flatnonzero(np.diff(rows["series"])), len(rows["series"]) - 1)
    order = np.argsort(number)
    steps = np.arange(ahead)
    future, past = [], []
    for place in order:
        end = last[place] + 1 - known_ahead * ahead
        past.append(np.arange(end - sees, end))
        future.append(end + steps if known_ahead else np.full(ahead, last[place]))
    before, after = (take(rows, np.concatenate(some)) for some in (past, future))
    after["values"] = np.zeros_like(after["values"])
    for part in (before, after):
        part["series"] = number[part["series"]]
    called = texts_column([names[place] for place in order])
    return Unlabelled(after, {"series": called}, before=before)


def _ratings(files: Sequence[Path], own: Any, splits: Splits) -> Unlabelled:
    """A row for each user of the files, who has rated all that the run's own data say and what the files add."""
    from dl.data.own.ratings import read_more

    names, users, added = read_more(tables_of(files), own, splits.info.details)
    one = known(splits.train)
    if "time" in one:  # what is added comes last
        last = max(part["time"].max() for part in splits.parts.values())
        added["time"] = last + 1.0 + np.arange(len(added["user"]))
    rows = {name: np.zeros(len(users), column.dtype) for name, column in one.items()}
    held = splits.test or take(one, slice(0))
    before = {name: np.concatenate([held[name], added[name]]) for name in one}
    return Unlabelled(rows | {"user": users}, {"user": texts_column(names)}, before=before)


_READ = {
    "pictures": _pictures,
    "masks": _masks,
    "boxes": _boxes,
    "texts": _texts,
    "pairs": _pairs,
    "recordings": _recordings,
    "transcripts": _recordings,
    "clouds": _clouds,
    "clips": clips,
    "questions": questions,
    "records": records,
    "purchases": purchases,
    "table": _table,
    "series": _series,
    "ratings": _ratings,
}
