"""Files of boxes around objects: COCO's JSON, Pascal VOC's XML, and the text files of YOLO."""

import collections
import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dl.core.errors import UserError
from dl.data.own.found import Line
from dl.data.own.paths import Named, files_under, filled_lines, part_by_name, part_lists, part_of
from dl.data.own.pixels import OF_NO_PART
from dl.data.readers.files import damaged, read
from dl.data.readers.given import parse_json, says
from dl.data.readers.picture_folders import PICTURES
from dl.data.sets.annotated import Objects, objects, read_voc, voc_names


class Annotated(NamedTuple):
    """A picture and, once its size is known, what is on it: classes by name."""

    path: Path
    part: str | None
    names: list[str]
    objects: Callable[[tuple[int, int], list[str]], Objects]  # of (width, height) and all classes


class Annotations(NamedTuple):
    what: str
    pictures: list[Annotated]
    classes: list[str]  # in the files' own order
    files: list[Path]
    lines: list[Line]


def annotations_in(source: Path) -> Annotations:
    """Whichever of the three layouts is there."""
    if source.suffix.lower() == ".json":
        return _coco(source.parent, [source])
    root = source.parent if source.is_file() else source
    files = [root / path for path in files_under(root)]
    of = collections.defaultdict(list)
    for path in files:
        of[path.suffix.lower()].append(path)
    sheets = [path for path in of[".json"] if says(path, b'"annotations"', b'"bbox"')]
    if sheets:
        found = _coco(root, sheets)
        if of[".xml"]:
            beside = Line(
                "left out", f"{len(of['.xml']):,} files in .xml", "COCO's JSON is read instead"
            )
            found = found._replace(lines=[*found.lines, beside])
        return found
    if of[".xml"]:
        return _voc(root, of[".xml"])
    labels = [path for path in of[".txt"] if _is_yolo(path)]
    if labels:
        return _yolo(root, files, of[".txt"], labels)
    raise UserError(
        "no-boxes",
        f"{source} has neither a COCO JSON file, nor Pascal VOC's XML files, nor YOLO's text files of boxes",
    )


def _parts_of(pictures: list[Annotated]) -> tuple[list[Annotated], list[Line]]:
    """Those with a part, where any has one."""
    kept = [picture for picture in pictures if picture.part is not None]
    if not kept or len(kept) == len(pictures):
        return pictures, []
    return kept, [Line("left out", f"{len(pictures) - len(kept):,} pictures", OF_NO_PART)]


def _found(index: Named, asked: Path, part: str | None, said_by: Path) -> Path:
    found = index.all(asked, part)
    if len(found) != 1:
        several = "several times" if found else "not"
        raise UserError(
            "file-missing",
            f"{said_by.name} speaks of the picture {asked}, which is {several} under {index.folder}: put it "
            "there, or take it out of the file",
        )
    return found[0]


# -- COCO --------------------------------------------------------------------------------------------


def _coco(root: Path, sheets: list[Path]) -> Annotations:
    pictures: list[Annotated] = []
    classes: dict[str, None] = {}
    crowd = nowhere = 0
    index = Named(root, PICTURES)  # the file may lie in annotations/, beside the pictures' folder
    words = [part_of(p.relative_to(root)) or part_by_name(p) for p in sheets]
    if len(sheets) > 1 and None in words:
        raise UserError(
            "annotations-unclear",
            f"{root} has several JSON files of boxes ({', '.join(p.name for p in sheets)}): name each after its "
            "part, such as train.json, or give one of them as the data",
        )
    for sheet, part in zip(sheets, words, strict=True):
        try:
            said = parse_json(read(sheet), sheet)
            names = {kind["id"]: str(kind["name"]) for kind in said["categories"]}
            of = collections.defaultdict(list)
            for note in said["annotations"]:
                if note.get("iscrowd"):
                    crowd += 1
                    continue
                left, top, wide, tall = (float(x) for x in note["bbox"])
                box = (left, top, left + wide, top + tall)
                if not all(map(math.isfinite, box)):
                    raise ValueError(f"the box {note['bbox']} of picture {note['image_id']!r}")
                of[note["image_id"]].append((names[note["category_id"]], box))
            files = [
                (of.pop(image["id"], []), Path(image["file_name"])) for image in said["images"]
            ]
            if len({file for _, file in files} | {image["id"] for image in said["images"]}) < (
                2 * len(files)
            ):
                raise ValueError("it has two entries of one picture")
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
        ) as error:
            raise damaged(sheet, f"no COCO file of boxes: {type(error).__name__} {error}") from None
        nowhere += sum(map(len, of.values()))
        used = {name for notes, _ in files for name, _ in notes}
        classes |= {name: None for _, name in sorted(names.items()) if name in used}
        for notes, file in files:
            whole = functools.partial(_whole, notes)
            path = _found(index, file, part, sheet)
            pictures.append(Annotated(path, part if len(sheets) > 1 else None, [], whole))
    lines = [Line("left out", f"{crowd:,} boxes", "around crowds (iscrowd)")] if crowd else []
    if nowhere:
        lines.append(Line("left out", f"{nowhere:,} boxes", "of pictures that the JSON lacks"))
    if more := len(set(index.every) - {picture.path for picture in pictures}):
        lines.append(Line("left out", f"{more:,} pictures", "that the JSON does not name"))
    return Annotations("COCO JSON", pictures, list(classes), sheets, lines)


def _whole(notes: list, size: tuple[int, int], classes: list[str]) -> Objects:
    number = {name: place for place, name in enumerate(classes)}
    return objects([box for _, box in notes], [number[name] for name, _ in notes], *size)


# -- Pascal VOC --------------------------------------------------------------------------------------


def _voc(root: Path, sheets: list[Path]) -> Annotations:
    index = Named(root, PICTURES)
    lists = part_lists(root, files_under(root), (path.stem for path in sheets), "Main")
    by_stem = {path.stem: path for path in sheets}
    if missing := [stem for stem in lists if stem not in by_stem]:
        raise UserError(
            "file-missing",
            f"the lists of {root} name {len(missing)} pictures without an XML file, such as {missing[0]}",
        )
    first = [by_stem[stem] for stem in lists]
    pictures = []
    for sheet in [*first, *(path for path in sheets if path not in set(first))]:
        data = sheet.read_bytes()
        part = lists.get(sheet.stem) or (None if lists else part_of(sheet.relative_to(root)))
        try:
            names = voc_names(data)
            if "" in names:
                raise ValueError("an object has no name")
        except ValueError as error:
            raise damaged(sheet, error) from None
        path = _found(index, Path(sheet.stem), part_of(sheet.relative_to(root)), sheet)
        pictures.append(Annotated(path, part, names, functools.partial(_of_voc, sheet, data)))
    pictures, lines = _parts_of(pictures)
    classes = {name for picture in pictures for name in picture.names}
    without = len(files_under(root, PICTURES)) - len(sheets)
    if without > 0:
        lines.append(Line("left out", f"{without:,} pictures", "without an XML file"))
    return Annotations("Pascal VOC", pictures, sorted(classes), sheets, lines)


def _of_voc(sheet: Path, data: bytes, size: tuple[int, int], classes: list[str]) -> Objects:
    try:
        return read_voc(data, tuple(classes), size)
    except ValueError as error:
        raise UserError("file-damaged", f"{sheet}: {error}: mend it or take it away") from None


# -- YOLO --------------------------------------------------------------------------------------------


_UNNAMED = 10_000  # classes without names; a higher number is a slip


def _is_yolo(path: Path) -> bool:
    """Whether the first line is a class number and at least four numbers."""
    with open(path, encoding="utf-8", errors="replace") as file:
        words = file.readline().split()
    return not words or (
        len(words) >= 5 and all(re.fullmatch(r"[-+.\deE]+", word) for word in words)
    )


def _yolo(root: Path, files: list[Path], texts: list[Path], sheets: list[Path]) -> Annotations:
    def key(path: Path) -> tuple[str, ...]:
        parts = path.relative_to(root).with_suffix("").parts
        return tuple(word for word in parts if word.lower() not in ("labels", "images"))

    notes = {key(path): path for path in sheets}
    beside = {key(path): path for path in texts} | notes  # one that begins otherwise is damaged
    names, named_by = _yolo_names(root, files)
    if named_by and len(set(names)) < len(names):
        raise damaged(named_by, "two classes have one name")
    said = named_by.name if named_by else ""
    pictures, numbers, without, polygons = [], set[int](), 0, 0
    shown = [root / path for path in files_under(root, PICTURES)]
    lists = part_lists(root, files_under(root), (path.stem for path in shown))
    for path in shown:
        sheet = beside.get(key(path))
        notes.pop(key(path), None)
        without += sheet is None
        boxes: list[tuple[int, list[float]]] = []
        for number, line in enumerate(
            sheet.read_text("utf-8", "replace").splitlines() if sheet else (), 1
        ):
            if not line.strip():
                continue
            try:
                kind, *edges = line.split()
                box = [float(edge) for edge in edges]
                if len(box) < 4:
                    raise ValueError(f"{len(box)} numbers after the class")
                if int(kind) < 0 or not all(map(math.isfinite, box)):
                    raise ValueError("a class below 0, or what is no number")
                polygons += _outline(box)
                boxes.append((int(kind), box))
            except ValueError as error:
                said_by = f"line {number} is no class number and box: {error}"
                raise damaged(sheet or path, said_by) from None
        numbers |= {kind for kind, _ in boxes}
        part = lists.get(path.stem) or (None if lists else part_of(path.relative_to(root)))
        pictures.append(Annotated(path, part, [], functools.partial(_of_yolo, boxes, names)))
    if numbers and max(numbers) >= (len(names) or _UNNAMED):
        known = f"{said} names {len(names)} classes from 0" if names else "nothing names as many"
        raise UserError(
            "class-out-of-range",
            f"boxes of {root} have the class number {max(numbers)}, and {known}: mend the number, or name the "
            "classes in data.yaml",
        )
    names.extend(f"class {number}" for number in range(len(names), max(numbers, default=-1) + 1))
    pictures, lines = _parts_of(pictures)
    lines.append(Line("classes", said or "unnamed", "" if said else "no data.yaml or classes.txt"))
    if notes:
        lines.append(Line("left out", f"{len(notes):,} text files", "of boxes without a picture"))
    if without:
        lines.append(
            Line("empty", f"{without:,} pictures", "without a text file: they show no object")
        )
    if polygons:
        lines.append(Line("polygons", f"{polygons:,}", "outlines, taken for the box around each"))
    files = [*sheets, *([named_by] if named_by else ())]
    return Annotations("YOLO text files", pictures, names, files, lines)


def _outline(box: list[float]) -> bool:
    """Whether a line's numbers are corners; else they are centre and sides, and perhaps more."""
    return len(box) > 5 and len(box) % 2 == 0


def _of_yolo(boxes: list, names: list[str], size: tuple[int, int], classes: list[str]) -> Objects:
    whole = []
    for _, box in boxes:
        if _outline(box):
            x, y = box[0::2], box[1::2]
            edges = min(x), min(y), max(x), max(y)
        else:
            x, y, wide, tall = box[:4]
            edges = x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2
        # Six digits are usual in such files: what they round beyond the edge lies on it.
        pixels = [edge * side for edge, side in zip(edges, size * 2, strict=True)]
        near = (0.0, 0.0, *size)
        whole.append([n if abs(p - n) < 0.01 else p for p, n in zip(pixels, near, strict=True)])
    return objects(whole, [kind for kind, _ in boxes], *size)


def _yolo_names(root: Path, files: list[Path]) -> tuple[list[str], Path | None]:
    """The classes in order, and the file that names them: data.yaml, classes.txt or obj.names."""
    for path in files:
        if path.suffix.lower() in (".yaml", ".yml"):
            text = re.sub(r"(^|\s)#.*", "", path.read_text("utf-8", "replace"))
            listed = re.search(r"^names\s*:\s*[\[{](.*?)[\]}]", text, re.M | re.S)
            below = re.search(r"^names\s*:\s*\n((?:[ \t]*(?:-|\d+\s*:).*\n?|\s*\n)+)", text, re.M)
            words = listed[1].split(",") if listed else below[1].splitlines() if below else []
            names = [
                re.sub(r"^\s*(?:-|\d+\s*:)?\s*", "", word).strip().strip("'\"") for word in words
            ]
            if any(names):
                return [name for name in names if name], path
        if path.name == "classes.txt" or path.suffix == ".names":
            return filled_lines(path), path
    return [], None
