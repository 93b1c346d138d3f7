"""What kind files are, where nobody says it."""

import importlib
import itertools
from collections import Counter
from pathlib import Path
from typing import get_args

from dl.core.errors import UserError
from dl.data.own.door import Kind
from dl.data.own.paths import SOUNDS, TABLES, walk
from dl.data.readers.picture_folders import PICTURES

LOOKED_AT = 5000  # files of a folder


def guessed_kind(data: str) -> str:
    """The kind that a file, a folder or a named set looks like.

    Raises:
      UserError: it looks like none, or is not here.
    """
    for kind in get_args(Kind):
        if data in importlib.import_module(f"dl.data.own.{kind}").NAMED:
            return kind
    path = Path(data).expanduser()
    if not path.exists() and ":" not in data:
        raise UserError("data-unknown", f"no file or folder {data} is here, and it is no named set")
    files = [Path(path.name)] if path.is_file() else list(itertools.islice(walk(path), LOOKED_AT))
    endings = Counter(file.suffix.lower() for file in files)
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
    if any_of(".jsonl", ".ndjson"):
        return "texts"
    if any_of(*TABLES, ".data"):
        return "table"
    if any_of(".txt", ".md"):
        return "texts" if len(folders) > 1 else "corpus"
    raise UserError(
        "kind-unclear",
        f"{data} does not show what it is: say --kind, one of {', '.join(get_args(Kind))}",
    )
