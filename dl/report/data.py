"""A page about a data set: what it was taken for, examples, counts, repeats, and columns to distrust."""

import base64
import io
import os
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dl.data.own.stored import StoredText
from dl.data.splits import Columns, Splits, row_count
from dl.data.survey import (
    LABELS,
    LEAK,
    Repeats,
    alone,
    constant,
    exact_keys,
    near_keys,
    repeats,
)
from dl.figures.canvas import new_figure, no_formula
from dl.figures.curves import grid
from dl.report.page import (
    Html,
    Section,
    captioned,
    escape,
    facts,
    folded,
    gallery,
    note,
    page,
    svg,
    table,
)
from dl.runs.files import replace

SHOWN = 24  # examples
READ = 5000  # rows of a part that is read from disk
OURS = (*LABELS, "numerical", "categorical", "series", "document")  # no names of the user's
Names = dict[str, list[str]]  # what the rows of each part are called
RARE = 10  # rows of a class below which a figure of it says little


def write_data_page(splits: Splits, file: Path) -> list[str]:
    """The page of a data set as one self-contained HTML file; returns what is to be mended, a line each.

    Of a part that is streamed from disk the page shows up to 5,000 rows, evenly spaced, and says so.
    """
    parts: dict[str, Columns] = {}
    names = {part: [f"row {n}" for n in range(row_count(x))] for part, x in splits.parts.items()}
    names |= {part: list(own) for part, own in splits.info.details.get("row_names", {}).items()}
    notes: list[str] = []
    for name, rows in splits.parts.items():
        if isinstance(rows, dict):
            parts[name] = rows
            if isinstance(text := rows.get("text"), StoredText) and "document" in rows:
                parts[name] = {"text": np.array(text.lines(READ), object)}
                names[name] = [f"line {n}" for n in range(row_count(parts[name]))]
                notes.append(f"Of {name}, up to {READ:,} lines of the text on disk are looked at.")
            continue
        parts[name], chosen = _sample(rows)
        names[name] = [names[name][row] for row in chosen]
        if len(rows) > READ:
            notes.append(
                f"Of {len(rows):,} rows of {name}, {READ:,} evenly spaced ones are looked at."
            )
    apart = {part: columns for part, columns in parts.items() if _has_rows(columns)}
    same, alike = (repeats(apart, keys(apart)) for keys in (exact_keys, near_keys))
    leaks = _leaks(splits, parts)
    odd = [
        *_odd_labels(splits, parts),
        *_odd_repeats(same, alike, names),
        *_odd_columns(splits, parts, leaks),
    ]
    info = splits.info
    seen = [(line.name, line.taken_for, line.more) for line in info.details.get("lines", ())]
    told = [("task", info.task), ("source", info.source), ("licence", info.licence)]
    sections = [
        Section("To check", _list(odd) if odd else note("Nothing odd was found.")),
        Section(
            "Taken for", table(("", "taken for", ""), seen) if seen else note(info.description)
        ),
        Section("Parts and labels", _counts(splits, parts)),
        Section("Examples", _examples(splits, parts)),
        Section("Columns", _columns(splits, parts, leaks)),
        *([Section("Repeats", _repeats(same, alike, names))] if apart else []),
        Section("About", facts((name, value) for name, value in told if value)),
    ]
    lead = " ".join([f"{sum(map(row_count, parts.values())):,} rows.", *notes])
    replace(file, page(info.title, lead, sections).encode())
    return odd


def _sample(rows: Any) -> tuple[Columns, list[int]]:
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), READ)).astype(int)).tolist()
    found = [rows[row] for row in chosen]
    return {name: np.stack([row[name] for row in found]) for name in found[0]}, chosen


def _has_rows(columns: Columns) -> bool:
    """Whether rows can repeat: those of a series or of a running text are moments and characters."""
    running = "values" in columns or "document" in columns
    return not running and not any(c.dtype == "<U1" for c in columns.values())


def _list(lines: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


# -- labels -----------------------------------------------------------------------------------------


def _classes(splits: Splits, parts: dict[str, Columns]) -> dict[str, np.ndarray]:
    """``{part: rows (or boxes) of each class}``; empty where labels are no classes."""
    names = splits.info.classes
    if not names or not all("label" in columns for columns in parts.values()):
        return {}
    labels = {part: columns["label"].ravel() for part, columns in parts.items()}
    return {part: np.bincount(x[x >= 0], minlength=len(names)) for part, x in labels.items()}


def _counts(splits: Splits, parts: dict[str, Columns]) -> str:
    sizes = facts((part, f"{row_count(columns):,} rows") for part, columns in parts.items())
    counts = _classes(splits, parts)
    if not counts:
        return sizes
    rows = []
    for place, name in enumerate(splits.info.classes):
        own = [found[place] for found in counts.values()]
        share = [f"{100 * found[place] / max(found.sum(), 1):.1f} %" for found in counts.values()]
        rows.append([name, *(f"{a:,} ({b})" for a, b in zip(own, share, strict=True))])
    return sizes + table(("class", *counts), rows, sortable=True)


def _odd_labels(splits: Splits, parts: dict[str, Columns]) -> Iterator[str]:
    counts = _classes(splits, parts)
    rare = []
    for place, name in enumerate(splits.info.classes if counts else ()):
        own = {part: int(found[place]) for part, found in counts.items()}
        if not own.get("train", 1):
            yield f"class {name!r} has no row to train on"
        elif min(own.values()) < RARE:
            rare.append(f"{name} ({', '.join(f'{count} {part}' for part, count in own.items())})")
    if rare:
        shown = "; ".join(rare[:4]) + ("; ..." if len(rare) > 4 else "")
        yield f"classes with fewer than {RARE} rows in a part: {len(rare)}: {shown}"


# -- repeats ----------------------------------------------------------------------------------------


def _repeats(same: Repeats, alike: Repeats, names: Names) -> str:
    rows = []
    for words, found in (("the same", same), ("alike", alike)):
        rows += [[words, f"within {part}", f"{count:,}"] for part, count in found.within.items()]
        rows += [
            [words, f"of {later} in {earlier} too", f"{count:,}"]
            for (earlier, later), count in found.between.items()
        ]
    pairs = [_pair(pair, names) for pair in (*same.examples, *alike.examples)]
    told = note(
        "Alike are pictures of the same shades at 12 x 12 pixels, texts of the same words, recordings of the "
        "same loudness over time, and rows of the same three digits."
    )
    shown = folded("A few of them", _list(list(dict.fromkeys(pairs)))) if pairs else ""
    return told + table(("rows", "where", "how many"), rows) + shown


def _pair(pair: tuple[tuple[str, int], tuple[str, int]], names: Names) -> str:
    (one, first), (other, second) = pair
    return f"{names[one][first]} ({one}) and {names[other][second]} ({other})"


def _odd_repeats(same: Repeats, alike: Repeats, names: Names) -> Iterator[str]:
    def such(*parts: tuple[str, str]) -> str:
        pairs = [p for p in (*same.examples, *alike.examples) if (p[0][0], p[1][0]) in parts]
        return f", such as {_pair(pairs[0], names)}" if pairs else ""

    for (earlier, later), count in same.between.items():
        more = alike.between[earlier, later] - count
        if earlier == "train" and count + max(more, 0):
            yield (
                f"rows of {later} that are in train too: {count:,}, and {max(more, 0):,} that look alike"
                f"{such((earlier, later))}: its figures flatter"
            )
    if count := sum(same.within.values()):
        there = such(*((part, part) for part in same.within))
        yield f"rows that are there before in the same part: {count:,}{there}"
    if same.contradicting:
        yield f"rows whose label is another than the same row's elsewhere: {same.contradicting:,}"


# -- columns ----------------------------------------------------------------------------------------


def _named(
    splits: Splits, parts: dict[str, Columns]
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Every column of numbers or codes ``{part: [rows, ...]}``, those of a table by their own names."""
    described = splits.info.details.get("columns", ())
    for name, first in next(iter(parts.values())).items():
        own = [c.name for c in described if getattr(c, "kind", None) == name]
        if own and first.ndim == 2 and first.shape[1] == len(own):
            for place, heading in enumerate(own):
                yield heading, {part: columns[name][:, place] for part, columns in parts.items()}
        else:
            yield name, {part: columns[name] for part, columns in parts.items() if name in columns}


def _leaks(splits: Splits, parts: dict[str, Columns]) -> dict[str, float]:
    """How much each plain column predicts by itself, where there is a label and another part to try it on."""
    other = next((part for part in ("validation", "test") if part in parts), None)
    if other is None or "label" not in parts["train"] or parts["train"]["label"].ndim > 1:
        return {}
    train, truth = parts["train"]["label"], parts[other]["label"]
    return {
        name: alone(own["train"], train, own[other], truth, len(splits.info.classes))
        for name, own in _named(splits, parts)
        if name != "label"
        and other in own
        and own["train"].ndim == 1
        and own["train"].dtype.kind in "iuf"
    }


def _odd_columns(
    splits: Splits, parts: dict[str, Columns], leaks: dict[str, float]
) -> Iterator[str]:
    for name, own in _named(splits, parts):
        train = own["train"]
        if train.dtype.kind in "iuf" and name not in OURS and constant(train):
            yield f"column {name!r} has one value in the training rows: it says nothing"
        if train.dtype.kind == "f" and (share := np.isnan(train).mean()) > 0.5:
            yield f"column {name!r} is missing in {share:.0%} of the training rows"
        if name == "image":
            flat = train.reshape(len(train), -1)
            if blank := int((flat == flat[:, :1]).all(1).sum()):
                yield f"{blank:,} pictures of the training part have one colour alone"
    for name, share in leaks.items():
        if share >= LEAK:
            yield (
                f"column {name!r} alone takes {share:.0%} of the errors away: is it known before the label is?"
            )


def _columns(splits: Splits, parts: dict[str, Columns], leaks: dict[str, float]) -> str:
    rows: list[list[str]] = []
    drawn: list[str] = []
    for name, own in _named(splits, parts):
        train = own["train"]
        shape = " x ".join(str(size) for size in train.shape[1:])
        values, missing = train, ""
        if train.dtype.kind in "UOT":
            values = np.array([len(str(text).split()) for text in train])
        elif train.dtype.kind == "f":
            values, missing = train[~np.isnan(train)], f"{np.isnan(train).mean():.1%}"
        if values.dtype.kind in "Mm" or not values.size:
            rows.append([name, shape, str(train.dtype), "", "", "", missing, ""])
            continue
        low, middle, high = np.quantile(values, [0, 0.5, 1], method="nearest")
        says = f"{max(leaks[name], 0):.0%}" if name in leaks else ""
        kind = "words" if train.dtype.kind in "UOT" else str(train.dtype)
        rows.append([name, shape, kind, f"{low:g}", f"{middle:g}", f"{high:g}", missing, says])
        if name != "image" and len(drawn) < SHOWN and not constant(values):
            drawn.append(_histogram(name if kind != "words" else f"words of {name}", values))
    head = ("column", "shape", "type", "least", "median", "most", "missing", "says alone")
    told = note(
        "Of the training rows. 'Says alone' is the share of the errors of the best guess that one column takes "
        "away by itself on rows that are not trained on."
    )
    return told + table(head, rows, sortable=True) + gallery(drawn)


def _histogram(name: str, values: np.ndarray) -> str:
    figure = new_figure(3.2, 1.9)
    axes = figure.add_subplot()
    flat = values.ravel()
    axes.hist(flat[:: max(1, flat.size // 200_000)], bins=40)
    axes.set_title(no_formula(name), loc="left", fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure, f"histogram of {name}")


# -- examples ---------------------------------------------------------------------------------------


def _examples(splits: Splits, parts: dict[str, Columns]) -> str:
    train = parts["train"]
    chosen = _spread(train)
    names = splits.info.classes

    def called(row: int) -> str:
        label = train.get("label")
        if label is None:
            return f"row {row}"
        if label.ndim > 1 or not names:
            return (
                f"row {row}, {int((label[row] >= 0).sum())} objects"
                if label.ndim > 1
                else f"{label[row]:g}"
            )
        return names[label[row]]

    if "image" in train:
        figures = [captioned(_png(train["image"][row]), called(row)) for row in chosen]
        return gallery(figures)
    if "waveform" in train:
        rate = splits.info.details.get("rate", 16000)
        length = train.get("length", np.full(len(train["waveform"]), train["waveform"].shape[1]))
        sounds = [_player(train["waveform"][row, : length[row]], rate) for row in chosen[:8]]
        return gallery(captioned(s, called(row)) for s, row in zip(sounds, chosen, strict=False))
    texts = [name for name, values in train.items() if values.dtype.kind in "UOT"]
    if texts and len(train[texts[0]][0]) > 1:
        rows = [[*(str(train[name][row])[:400] for name in texts), called(row)] for row in chosen]
        return table((*texts, "label"), rows)
    if texts:  # a character a row
        return f"<pre>{escape(''.join(train[texts[0]][:1500]))}</pre>"
    if "values" in train:
        return _series(train)
    shown = list(_named(splits, {"train": train}))[:20]
    plain = [(name, own["train"]) for name, own in shown if own["train"].ndim == 1]
    rows = [[*(f"{values[row]:.6g}" for _, values in plain)] for row in chosen[:10]]
    return table([name for name, _ in plain], rows)


def _spread(columns: Columns) -> list[int]:
    """Rows to show: of every class by turns where there are classes, else evenly spaced."""
    label, size = columns.get("label"), row_count(columns)
    if label is None or label.ndim > 1 or label.dtype.kind != "i":
        return np.unique(np.linspace(0, size - 1, min(size, SHOWN)).astype(int)).tolist()
    turn = np.zeros(size, int)
    for value in np.unique(label):
        turn[label == value] = np.arange((label == value).sum())
    return np.lexsort((label, turn))[:SHOWN].tolist()


def _png(image: np.ndarray) -> Html:
    from PIL import Image

    picture = Image.fromarray(grid(image[None] / 255))
    side = max(picture.size)
    if side > 192:
        picture.thumbnail((192, 192))
    elif side < 96:
        picture = picture.resize([size * (96 // side) for size in picture.size], 0)
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return Html(f'<img src="data:image/png;base64,{_base64(buffer)}" alt="an example">')


def _player(samples: np.ndarray, rate: int) -> Html:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, rate, len(samples), "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return Html(
        f'<audio controls preload="none" src="data:audio/wav;base64,{_base64(buffer)}"></audio>'
    )


def _base64(buffer: io.BytesIO) -> str:
    return base64.b64encode(buffer.getvalue()).decode()


def _series(train: Columns) -> str:
    values = train["values"]
    lines = values.T if "length" not in train else values
    drawn = []
    for place, line in enumerate(lines[:12]):
        figure = new_figure(4.6, 1.8)
        axes = figure.add_subplot()
        axes.plot(line[:: max(1, len(line) // 2000)], lw=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        drawn.append(svg(figure, f"series {place}"))
    return gallery(drawn)


def default_file(name: str) -> Path:
    """Where the page of a data set goes if nothing else is said."""
    stem = Path(os.fspath(name).partition(":")[2] or name).stem
    return Path(f"data-{stem}.html")
