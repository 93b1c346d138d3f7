"""What kind files are, where nobody says it: by endings and folders, and tables and texts by their content."""

import gzip
import importlib
import itertools
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from dl.core.errors import UserError
from dl.data.own.columns import tables_in
from dl.data.own.door import Kind
from dl.data.own.found import Line, OwnSheet, column_called
from dl.data.own.lines import TEXTS, lengths, prose, tab_separated, text_in, text_table
from dl.data.own.packed_pictures import TYPED, packed_columns
from dl.data.own.paths import SOUNDS, TABLES, ends, files_under, is_table, plain_name, visible, walk
from dl.data.own.questions import ANSWERS, QUESTIONS, STORIES
from dl.data.own.ratings import CALLED
from dl.data.own.series import SERIES, moments
from dl.data.own.texts import LABELS, begin_with_labels
from dl.data.own.token_files import is_token_folder
from dl.data.readers.csv_text import blank_cut
from dl.data.readers.frames import Frame, numbers, words
from dl.data.readers.given import given_path
from dl.data.readers.on_disk import batches
from dl.data.readers.picture_folders import PICTURES
from dl.data.readers.series_tables import proposed_times

ARRAYS = (
    *(".npz", ".npy", ".pkl", ".pickle", ".mat", ".h5", ".hdf5", ".rds", ".rdata", ".pt", ".pth"),
    *(".safetensors", ".tfrecord", ".tfrecords"),
)
LOOKED_AT = 5000  # files of a folder
_HEAD = 1 << 20  # bytes of a file
_WIDE = 100  # columns of a table
SCRIPTS = {
    "pictures": "image_classification",
    "boxes": "object_detection",
    "masks": "segmentation",
    "texts": "sentiment",
    "pairs": "translation",
    "corpus": "gpt",
    "recordings": "spoken_digits",
    "transcripts": "speech_ctc",
    "series": "forecasting",
    "clips": "action_recognition",
    "clouds": "point_clouds",
    "table": "tabular",
    "ratings": "recommendation",
    "records": "health_records",
    "questions": "question_answering",
    "prices": "trading",
    "purchases": "customer_segments",
}
# Kinds whose files all look alike, told apart by what they hold; and those that one may well be read as.
_BY_CONTENT = ("texts", "pairs", "corpus", "series", "table", "ratings", "questions")
_ALSO = {"corpus": ("texts", "pairs"), "texts": ("corpus",), "pairs": ("corpus",)}


def guessed_kind(data: str) -> str:
    """The kind that a file, a folder or a named set looks like.

    Raises:
      UserError: it looks like none, or is not here.
    """
    for kind in get_args(Kind):
        if data in importlib.import_module(f"dl.data.own.{kind}").NAMED:
            return kind
    path = given_path(data)
    if not path.exists() and ":" not in data:
        raise UserError("data-unknown", f"no file or folder {data} is here, and it is no named set")
    if is_token_folder(path):
        return "corpus"
    files = [Path(path.name)] if path.is_file() else list(itertools.islice(walk(path), LOOKED_AT))
    endings = Counter(Path(plain_name(file)).suffix.lower() for file in files)
    folders = {part.lower() for file in files for part in file.parts[:-1]}

    def any_of(*wanted: str) -> int:
        return sum(endings[ending] for ending in wanted)

    if any_of(*PICTURES):
        marks = ("mask", "masks", "annot", "segmentations", "groundtruth", "labels_png")
        if any(folder.endswith(marks) for folder in folders):
            return "masks"
        marked = any_of(".xml", ".json", ".txt") and folders & {"labels", "annotations", "images"}
        return "boxes" if marked else "pictures"
    if any_of(*SOUNDS):
        spoken = any(file.name.endswith(".trans.txt") for file in files) or any_of(*TABLES)
        return "transcripts" if spoken else "recordings"
    if path.is_dir() and {"events", "stays"} <= {
        plain_name(file).partition(".")[0] for file in files
    }:
        return "records"
    if any_of(".off", ".ply", ".xyz", ".pts"):
        return "clouds"
    if found := _by_content(path):
        return found
    if any_of(".jsonl", ".ndjson"):
        return "texts"
    if any_of(*TABLES, ".data", ".dat"):
        return "table"
    languages = not any_of(".txt", ".md") and all(2 < len(ending) < 5 for ending in endings)
    if languages and len(endings) == 2 and len({*endings.values()}) == 1:
        return "pairs"  # train.de and train.en
    if any_of(".txt", ".md", ""):
        return "texts" if len(folders) > 1 else "corpus"
    raise UserError(
        "kind-unclear",
        f"{data} does not show what it is: say --kind, one of {', '.join(get_args(Kind))}",
    )


def check_kind(path: Path, kind: str) -> None:
    """Raise UserError where files are plainly not of a kind: pictures, recordings or arrays in place of texts."""
    files = [Path(path.name)] if path.is_file() else [*itertools.islice(walk(path), LOOKED_AT)]
    endings = Counter(Path(plain_name(file)).suffix.lower() for file in files)
    if kind == "clouds":
        endings[".npy"] = 0  # a cloud may be one
    held = {
        what: sum(endings[ending] for ending in some)
        for what, some in (("pictures", PICTURES), ("recordings", SOUNDS), ("arrays", ARRAYS))
    }
    what, count = max(held.items(), key=lambda item: item[1])
    own = {"pictures": ("pictures", "boxes", "masks"), "recordings": ("recordings", "transcripts")}
    if 2 * count <= len(files) or kind in own.get(what, ()):
        return
    if what == "arrays":
        raise UserError(
            "file-of-arrays",
            f"{path.name} holds arrays or a program's own format: in Python dl.train_batches takes arrays by "
            "name; else write a csv, Parquet, or pictures in a folder for each class",
        )
    if path.is_dir() and kind in ("series", "table", "ratings") and any(map(is_table, files)):
        return  # a table beside them, which may be what is meant
    looks, called = guessed_kind(str(path)), {"corpus": "text", "table": "a table"}.get(kind, kind)
    raise UserError(
        "set-of-another-kind",
        f"{path.name} holds {count:,} {what}, which are not read as {called}: "
        f"{_trained_by(looks, path)} trains on them",
    )


def kind_lines(path: Path, kind: str, guessed: bool, own: Any) -> list[Line]:
    """What to show of the kind: that it was guessed, or that files look like another one, where the user named
    no column."""
    if guessed:
        script = f"`dl run {SCRIPTS[kind]}` trains on it" if kind in SCRIPTS else "for dl.data.open"
        return [Line("read as", kind, f"as it looks; {script}")]
    if own != type(own)():
        return []
    looks: str | None
    if kind == "pictures" and path.is_dir():
        looks = "masks" if guessed_kind(str(path)) == "masks" else None
    elif kind in _BY_CONTENT:
        looks = _by_content(path)
    else:
        return []
    if looks is None or looks in (kind, *_ALSO.get(kind, ())):
        return []
    script = _trained_by(looks, path) if looks in SCRIPTS else "dl.data.open"
    return [
        Line("check", f"read as {kind}", f"it looks like {_NAMES[looks]}: {script} reads it so")
    ]


_OF_COLUMNS = (
    *("text-unnamed", "target-unnamed", "target-too-many-classes", "series-no-variables"),
    *("table-separator", "table-no-columns", "column-unnamed", "pairs-files"),
)


def _trained_by(kind: str, path: Path) -> str:
    """The command that trains on a path of that kind."""
    return f"`dl run {SCRIPTS[kind]} --data {shlex.quote(path.name)}`"


def looks_otherwise(path: Path, kind: str, error: UserError) -> str:
    """What a refusal that asks for columns says, led by the kind that the files rather look like: were they of
    that one, no column named would mend it."""
    looks = _by_content(path) if error.code in _OF_COLUMNS and kind in _BY_CONTENT else None
    script = f"`dl run {SCRIPTS[looks]}" if looks in SCRIPTS else "dl.data.open"
    if looks in (None, kind) or script in error.message:
        return error.message
    called = _NAMES[str(looks)]
    reads = _trained_by(looks, path) if looks in SCRIPTS else script
    if looks == "pairs":  # several texts a row may as well be one to learn from
        called = "texts without classes"
        reads = f"{_trained_by('corpus', path)} or, of two texts a row, {reads}"
    return f"{path.name} looks like {called}: {reads} takes it so; else {error.message}"


_NAMES = {
    "texts": "texts with a label each",
    "pairs": "pairs of texts",
    "corpus": "running text",
    "series": "series",
    "clips": "clips with a class each",
    "table": "a table",
    "ratings": "ratings (kind ratings)",
    "records": "records of stays",
    "questions": "questions about stories",
    "prices": "prices",
    "purchases": "purchases",
    "pictures": "a table of pictures",
    "masks": "pictures and masks of their places",
    "recordings": "a table of recordings",
    "transcripts": "a table of recordings and their texts",
}


def _by_content(path: Path) -> str | None:
    """What a file of text or a table, or the first to train on in a folder, holds; None where it is neither."""
    for own in (OwnSheet(), OwnSheet(encoding="cp1252")):
        try:
            return _found(path, own)
        except UserError as error:
            if error.code != "encoding":
                break
    return None


def _found(path: Path, own: OwnSheet) -> str | None:
    if path.is_dir() and (packed := files_under(path, TYPED)) and packed_columns(path / packed[0]):
        return "pictures"
    one = tables_in(path)[0][0][1] if path.is_dir() else path
    if packed_columns(one):
        return "pictures"
    if is_table(one) or ends(one, (".data", ".dat")):
        return _of_table(_beginning(one, own))
    if path.is_dir() and any(each.is_dir() for each in visible(path)):
        return None
    text = text_in(_head(one), one.name, own.encoding)
    lines = [line for line in text.split("\n")[:1000] if line.strip()]
    if _in_columns(lines):
        return _of_table(_beginning(one, own))
    speakers = sum(line.partition(" ")[0].endswith(":") for line in lines) > len(lines) / 2
    if begin_with_labels(path, own) and not speakers:
        return "texts"
    return "corpus" if lines else None


def _in_columns(lines: Sequence[str]) -> bool:
    """Whether lines of text are rather rows of cells."""
    numeric = len(lines) > 1 and all(re.fullmatch(_NUMERIC, line) for line in lines[1:])
    aligned = any("  " in line.rstrip() for line in lines) and blank_cut(
        "\n".join(lines), '"', None
    )
    if numeric or aligned or tab_separated(lines):
        return True
    for mark in ",;|":
        counts = [line.count(mark) for line in lines]
        if len(lines) > 4 and counts[0] and np.mean(np.array(counts) == counts[0]) > 0.98:
            return True
    return False


_NUMERIC = r"[-+.,:;\d\seE]*"


def _head(path: Path) -> bytes:
    """The first whole lines of a file."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with (gzip.open if packed else open)(path, "rb") as file:
            data = file.read(_HEAD)
    except (OSError, EOFError) as error:
        raise UserError("file-read", f"cannot read {path}: {error}") from None
    return data if len(data) < _HEAD else data[: data.rfind(b"\n") + 1 or None]


def _beginning(path: Path, own: OwnSheet) -> Frame:
    """The first rows of a table."""
    if ends(path, (".parquet", ".arrow", ".feather", ".ipc")):
        import pyarrow as pa

        try:
            some = next(batch for batch in batches(path) or () if batch.num_rows)
            return text_table(some.slice(0, 1000), own)
        except (pa.ArrowException, OSError, StopIteration):
            if ends(path, (".parquet",)):
                said = f"{path.name} is no Parquet file with rows"
                raise UserError("not-a-table", said) from None
    if ends(path, (".json", ".arrow", ".feather", ".ipc")):
        return text_table(path, own)
    data = _head(path)
    if b"::" in data.partition(b"\n")[0] and b"\t" not in data:  # as MovieLens has it
        data = data.replace(b"::", b"\t")
    return text_table(data, own, path.name)


def _of_table(frame: Frame) -> str:
    """The kind of data whose first rows these are."""
    # The first columns of a wide table show what it is.
    some = frame.columns.select(frame.headings[:_WIDE]).slice(0, 1000)
    sample = Frame(frame.name, some, decimal=frame.decimal)
    cells = {h: [w for w in words(sample, h) if w is not None] for h in sample.headings}
    for endings, kind in ((PICTURES, "pictures"), (SOUNDS, "recordings")):
        for own in cells.values():
            named = sum(cell.lower().endswith(tuple(endings)) for cell in own)
            if own and 2 * named > len(own):
                rest = [h for h, n in lengths(sample, in_words=True).items() if n > 2]
                return "transcripts" if kind == "recordings" and rest else kind
    count = len(frame.headings)
    kinds = {heading: len(set(own)) for heading, own in cells.items()}
    whole, numeric = _whole(sample), [h for h in cells if numbers(sample, h).numeric]
    if all(column_called(sample, None, each, "") for each in (STORIES, QUESTIONS, ANSWERS)):
        return "questions"
    if count < 7 and all(
        column_called(sample, None, CALLED[name], "") for name in ("user", "item")
    ):
        return "ratings"
    if count in (3, 4) and len(whole) == count and frame.headings[0] == "column_1":
        *ids, value = (kinds[heading] for heading in frame.headings[:3])
        if value < 12 and min(ids) > value and max(ids) < sample.rows:
            return "ratings"
    if count < 7 and (found := _of_texts(sample, cells, kinds)):
        return found
    return "series" if _follows_in_time(sample, numeric, whole) else "table"


def _of_texts(frame: Frame, cells: dict[str, list[str]], kinds: dict[str, int]) -> str | None:
    """The kind of texts that a narrow table holds; None where it holds none."""
    texts = prose(frame)
    few = [
        h for h in cells if h not in texts and 2 <= kinds[h] <= max(2, min(200, frame.rows // 5))
    ]
    if not texts:
        named = [column_called(frame, None, names, "") for names in (TEXTS, LABELS)]
        two = (
            len(cells) == 2
            and all(kinds.values())
            and not any(numbers(frame, h).numeric for h in cells)
        )
        return (
            "texts" if len(cells) == 2 and (all(named) or (two and few and len(few) < 2)) else None
        )
    if few or column_called(frame, None, LABELS, "") not in (None, *texts):
        return "texts"
    return "pairs" if len(texts) > 1 else "corpus" if len(cells) < 3 else None


def _whole(frame: Frame) -> list[str]:
    """The columns of whole numbers."""
    found = ((h, numbers(frame, h)) for h in frame.headings)
    return [h for h, n in found if n.numeric and (n.values == np.floor(n.values))[~n.missing].all()]


def _follows_in_time(frame: Frame, numeric: Sequence[str], whole: Sequence[str]) -> bool:
    """Whether rows are moments: one a time, or one a time of each series; or numbers that hardly change from
    row to row."""
    heading, series = proposed_times(frame), column_called(frame, None, SERIES, "")
    if heading and series:
        return True
    if not heading and len(numeric) == len(frame.headings) and not set(whole) and frame.rows > 50:
        columns = (numbers(frame, each).values for each in numeric)
        return all(_alike(column[:-1], column[1:]) > 0.9 for column in columns)
    try:
        when, used = moments(frame)
    except UserError as error:
        return error.code == "dates-ambiguous"
    if not used or when.dtype.kind != "M" or not set(numeric) - set(used):
        return False
    steps, rest = np.diff(when), set(frame.headings) - {*numeric, *used}
    if (steps > np.timedelta64(0)).all():
        _, often = np.unique(steps, return_counts=True)
        return len(steps) > 2 and often.max() >= 0.5 * len(steps)
    for heading in rest:  # the name of the series
        names = words(frame, heading)
        several = 4 * len(set(names)) <= len(names)
        if several and len({*zip(when.tolist(), names, strict=True)}) == len(when):
            return True
    return False


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    there = ~np.isnan(one) & ~np.isnan(other)
    one, other = one[there], other[there]
    varies = len(one) > 2 and one.std() > 0 and other.std() > 0
    return float(np.corrcoef(one, other)[0, 1]) if varies else 0.0
