"""A trained run's predictions for files: lines in the user's words, in a file that no kill tears."""

import dataclasses
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from dl.core.errors import UserError, bounded
from dl.core.experiment import Experiment
from dl.core.state import combine, path_name
from dl.data.batches.streams import FileRows
from dl.data.own.lines import texts_column
from dl.data.own.mask_values import channels
from dl.data.own.paths import files_in, short_names
from dl.data.own.tested import Tested, tested_on
from dl.data.readers.csv_text import csv_line
from dl.data.readers.given import given_path
from dl.data.splits import Splits
from dl.platform import harmless
from dl.runs.files import opened_to_append
from dl.runs.folder import lock_file, read_json, to_json, write_json
from dl.runs.readers import entry
from dl.scores.ranking import best, known_items
from dl.tasks.detection import Detections
from dl.training.leaves import digests, flatten
from dl.training.prediction import Predictor, predictor_of
from dl.training.run import Run

Line = dict[str, Any]


def labelled(outputs: Any, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """What outputs say, by column: of logits ``[rows, classes]`` the ``class`` and each one's probability,
    ``p_NAME``; without classes the outputs as ``value``."""
    if not classes:
        return {"value": np.asarray(outputs)}
    logits = np.asarray(outputs, np.float64)
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    chances = (odds / odds.sum(-1, keepdims=True)).astype(np.float32)
    named = {f"p_{name}": chances[:, place] for place, name in enumerate(classes)}
    return {"class": np.asarray(classes, object)[logits.argmax(-1)], **named}


def nearest(
    predictor: Predictor, columns: Mapping[str, Any], known: Mapping[str, Any], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """The class of the nearest of the ``known`` rows by vectors of length 1, and their ``cosine``, by column."""
    cosine = predictor(columns) @ predictor(known).T
    label = np.asarray(known["label"])[cosine.argmax(-1)]
    return {"nearest": np.asarray(names, object)[label], "cosine": cosine.max(-1)}


def item_scores(predictor: Predictor, columns: Mapping[str, Any], items: int) -> np.ndarray:
    """The scores of all items for each row, ``[rows, items]``, by a predictor of them or of pairs of a ``user``
    and an ``item``."""
    if "item" not in predictor.task.columns:
        return predictor({name: columns[name] for name in predictor.task.columns})
    user, every = np.asarray(columns["user"]), np.arange(items, dtype=np.int32)
    pairs = {"user": np.repeat(user, items), "item": np.tile(every, len(user))}
    return predictor(pairs).reshape(-1, items)


def recommended(
    predictor: Predictor, columns: Mapping[str, Any], splits: Splits, at: int = 10
) -> dict[str, np.ndarray]:
    """The best items for each row's ``user`` but for those that the parts before the test part have of them, by
    column ``[rows, at]``: the ``item``, its ``title`` where the data have one, and its ``score``."""
    details = splits.info.details
    scores = item_scores(predictor, columns, len(details["items"]))
    known = known_items(columns["user"], splits.before("test"), scores.shape[1])
    item, score = best(scores, known, at)
    named = {"item": details["items"], "title": details.get("titles", ())}
    found = {name: texts_column(words)[item] for name, words in named.items() if words}
    return found | {"score": score}


def predict_files(
    run: Run, files: Any, out: Path | None = None, batch_size: int = 0, /, **fields: Any
) -> int:
    """Write what a run predicts for files, and return the number of rows that they are.

    They are read as the run's own data were and prepared by its ``build``, as :meth:`Run.evaluate` does it;
    pictures and recordings only when their batch is computed. ``out`` is written as ``NAME.part`` and called so
    when it is whole; what was stopped goes on after its last whole batch.

    >>> predict_files(dl.open_run("runs/pets"), ["new.jpg"], Path("said.csv"))  # doctest: +SKIP

    Args:
      files: pictures, recordings, folders or tables of them; tables of rows; files of text: one, or several.
      out: a .csv or .jsonl file; for masks a folder, for their pictures too. None prints csv.
      batch_size: rows computed at once; 0 for as many as in evaluation.
      **fields: of the kind, where these files are written otherwise, such as ``encoding="cp1252"``.

    Raises:
      UserError: the files are unlike what the run was trained on, or ``out`` is there or cannot be written.
    """
    bounded("--batch-size", batch_size, at_least=0, whole=True)
    table = out and _table_of(given_path(out))
    if table and table.exists():
        raise UserError("file-exists", f"{table} is there already: name another, or take it away")
    several = isinstance(files, Iterable) and not isinstance(files, str | os.PathLike)
    files = [*files] if several else [files]
    if not files:
        raise UserError("part-empty", "give the files to predict for: dl predict RUN FILE ...")
    given = [given_path(file) for file in files]
    with tested_on(given, alike=False, ordered=True, fields=fields) as wanted:
        try:
            experiment = run.rebuilt()
        except UserError as error:
            if error.code != "stream-not-here" or not isinstance(wanted.rows, FileRows):
                raise
            wanted.rows = wanted.rows.read()  # the script takes whole columns, as training had them
            experiment = run.rebuilt()
    test: Any = experiment.tests.get("test")
    if wanted.rows is None or test is None:
        raise UserError(
            "script-without-data",
            f"{run.folder.path}: its script opens no data of yours by dl.data.open, so it cannot predict for "
            "files: give arrays to run.predict",
        )
    count = len(next(iter(wanted.names.values())))
    if test.size != count:
        raise UserError(
            "rows-lost",
            f"the run's script makes {test.size:,} examples of {count:,} rows, so no prediction can be told to be "
            "of which",
        )
    predictor = predictor_of(experiment, run.predictor.variables, example=run.predictor.example)
    if batch_size:
        predictor = dataclasses.replace(predictor, batch_size=batch_size)
        test = dataclasses.replace(test, batch_size=min(batch_size, count))
    of: dict[str, Any] = {
        "run": str(run.folder.path.resolve()),
        "variables": combine(digests(flatten({"variables": predictor.variables}))),
        "fields": to_json(fields),
    }
    if "file" not in wanted.names:  # rows are of all of them
        every = [below for path in given for below in files_in(path)]
        of["files"] = [[str(path), _stamp(path)] for path in every]
    sink = Sink(out, wanted, of)
    with sink:
        for end, lines in predicted(experiment, predictor, test, wanted, sink):
            sink.write(end, lines)
    return count


def predicted(
    experiment: Experiment, predictor: Predictor, test: Any, wanted: Tested, sink: "Sink"
) -> Iterator[tuple[int, list[Line]]]:
    """Batch by batch, the row that the next one begins with, and the lines of those before it."""
    assert wanted.info is not None
    first, size = sink.done // test.batch_size, test.batch_size
    ahead = hasattr(test, "iterate")
    batches = test.iterate(first) if ahead else map(test.__getitem__, range(first, len(test)))
    for place, batch in enumerate(batches, first):
        batch = jax.device_get(batch)
        real = np.asarray(batch.pop("mask")) > 0
        columns = {name: np.asarray(x)[real] for name, x in batch.items()}
        said = (experiment.answer or (lambda own, rows: own(rows)))(predictor, columns)
        said = _by_column(said, wanted.info.details["kind"], wanted.info.classes)
        lines: list[Line] = []
        rows = range(place * size, place * size + int(real.sum()))
        for row in rows[max(0, sink.done - rows.start) :]:
            one = jax.tree.map(lambda x, at=row - rows.start: x[at], said)
            names = {name: column[row] for name, column in wanted.names.items()}
            lines += [names | line for line in _lines(one, row, wanted, sink)]
        yield rows.stop, lines


def _by_column(said: Any, kind: str, classes: Sequence[str]) -> Any:
    """Predictions of rows as columns by name; those of masks and boxes stay as they are."""
    if isinstance(said, dict):
        return {n: texts_column(x) if isinstance(x, list) else x for n, x in said.items()}
    if isinstance(said, Detections) or kind == "masks":
        return said
    if isinstance(said, np.ndarray):
        of_classes = said.ndim == 2 and said.shape[1] == len(classes) and said.dtype.kind == "f"
        return labelled(said, classes if of_classes else ())
    leaves = jax.tree_util.tree_leaves_with_path(said)
    return {path_name(path) or "value": leaf for path, leaf in leaves}


def _lines(one: Any, row: int, wanted: Tested, sink: "Sink") -> list[Line]:
    """What was predicted for one row, in the user's words and in the places of the user's picture."""
    assert wanted.info is not None
    classes = wanted.info.classes
    if isinstance(one, Detections):
        boxes = one.boxes if wanted.back is None else wanted.back(row, one.boxes)
        sides = ("left", "top", "right", "bottom")
        return [
            {"class": classes[label], "score": score, **dict(zip(sides, box, strict=True))}
            for box, score, label in zip(boxes, one.score, one.label, strict=True)
            if label >= 0
        ]
    if wanted.info.details["kind"] == "masks":
        found = one.argmax(-1)
        found = found if wanted.back is None else wanted.back(row, found)
        shares = {f"share_{name}": np.mean(found == c) for c, name in enumerate(classes)}
        return [sink.picture(row, found, wanted.info.details.get("values")) | shares]
    if wanted.info.details["kind"] == "series":  # a line for each step ahead
        ahead = one["value"] if wanted.back is None else wanted.back(row, one["value"])
        names = wanted.info.details["variables"]
        return [
            {"step": step} | dict(zip(names, x, strict=True)) for step, x in enumerate(ahead, 1)
        ]
    if wanted.info.details["kind"] == "ratings":  # a line for each item recommended
        places = range(int(np.isfinite(one["score"]).sum()))
        return [{"rank": n + 1} | {name: x[n] for name, x in one.items()} for n in places]
    return [one]


class Sink:
    """Where lines go: a file that has its name once it is whole, or standard output.

    Attributes:
      done: rows whose lines an earlier process has written, which are kept.
    """

    def __init__(self, out: Path | None, wanted: Tested, of: Mapping[str, Any]):
        """
        Args:
          of: what the lines hang on beside their rows: the run, its variables, how the files are read.
        """
        self.done, self._names = 0, wanted.names
        self._file: BinaryIO | None = None
        self._of: dict[str, Any] = {**of, "jsonl": False}
        self._named, self._told = 0, hashlib.sha256()  # the rows told of so far
        self._stamped: tuple[str, Any] = ("", None)
        self._folder: Path | None = None
        self._fields: list[str] = []
        if out is None:
            return
        folder, out = given_path(out), _table_of(given_path(out))
        if out.parent == folder:
            if wanted.info is None or wanted.info.details["kind"] != "masks":
                raise UserError(
                    "file-ending",
                    f"--out {folder}: a folder is for masks, so name a .csv or .jsonl file",
                )
            self._folder = folder
            names = short_names([os.path.abspath(x) for x in self._names["file"]])  # without ..
            bare = [os.path.splitext(name)[0] for name in names]
            self._short = [f"{x}.png" for x in (bare if len(set(bare)) == len(bare) else names)]
        self._of["jsonl"] = out.suffix.lower() == ".jsonl"
        self._out, self._part = out, out.with_name(f"{out.name}.part")
        self._note = out.with_name(f"{out.name}.part.json")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._locked()
            if not self._begun():
                self._file.truncate(0)
        except OSError as error:
            raise UserError("file-write", f"{out} cannot be written: {error.strerror}") from None

    def _locked(self) -> BinaryIO:
        """The file that is to be whole, which no other process writes."""
        file = opened_to_append(self._part)
        try:
            lock_file(file)
        except BlockingIOError:
            ours = False
        except OSError:  # some mounted drives know no locks
            ours = True
        else:  # unless the other has just given it its name
            ours = self._part.exists() and os.path.samestat(
                os.fstat(file.fileno()), self._part.stat()
            )
        if not ours:
            file.close()
            raise UserError(
                "file-in-use",
                f"{self._out} is being written by another process: wait for it, or name another",
            )
        return file

    def _begun(self) -> bool:
        """Whether there is something to go on with: of the same run, its rows the first of these, and their
        files as they were."""
        if not (self._note.is_file() and self._part.is_file()):
            return False
        note = read_json(self._note)
        for name, kind in {"rows": int, "bytes": int, "fields": list, "names": str}.items():
            entry(self._note, note, name, kind)
        rows = note["rows"]
        if note["of"] != self._of or not 0 <= rows <= len(next(iter(self._names.values()))):
            return False
        if note["names"] != self._digest(rows):
            self._named, self._told = 0, hashlib.sha256()
            return False
        self.done, self._bytes, self._fields = rows, max(note["bytes"], 0), note["fields"]
        return True

    def _digest(self, rows: int) -> str:
        """Of what the first rows are called, and of the size and time of the files that they are of. Asked for
        more and more rows, it looks at each once."""
        files = self._names.get("file")
        for row in range(self._named, rows):
            if files is not None and files[row] != self._stamped[0]:
                self._stamped = files[row], _stamp(Path(files[row]))
            named = [str(column[row]) for column in self._names.values()]
            self._told.update(json.dumps([named, self._stamped[1]]).encode())
        self._named = rows
        return self._told.hexdigest()

    def __enter__(self) -> "Sink":
        if self._file is not None and self.done:
            self._file.truncate(self._bytes)
            self._file.seek(self._bytes)
            print(f"{self.done:,} rows were written before and are kept", file=sys.stderr)
        return self

    def write(self, rows: int, lines: Sequence[Line]) -> None:
        """Lines of the rows before ``rows``, all or none of which are kept."""
        text = io.StringIO()
        plain = [{name: _plain(x) for name, x in line.items()} for line in lines]
        if self._of["jsonl"]:
            text.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in plain)
        elif plain:
            begun = bool(self._fields)
            self._fields = self._fields or list(plain[0])
            text.write("" if begun else csv_line(self._fields))
            for line in plain:
                cells = (line.get(name) for name in self._fields)
                text.write(csv_line(json.dumps(x) if isinstance(x, list) else x for x in cells))
        if self._file is None:
            said = text.getvalue() if not sys.stdout.isatty() else harmless(text.getvalue(), "\n\t")
            sys.stdout.write(said.encode("utf-8", "backslashreplace").decode())
            sys.stdout.flush()
            return
        # Of a path that is not UTF-8: JSON reads it back as it was, and os.fsencode finds the file.
        self._file.write(text.getvalue().encode("utf-8", "backslashreplace"))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._bytes = self._file.tell()
        note = {"of": self._of, "rows": rows, "bytes": self._bytes, "fields": self._fields}
        write_json(self._note, note | {"names": self._digest(rows)})

    def picture(self, row: int, classes: np.ndarray, values: Sequence[int] | None) -> Line:
        """The mask ``classes [height, width]`` as a picture where asked for, by the values of training's masks."""
        from PIL import Image

        if self._folder is None:
            return {}
        file = self._folder / self._short[row]
        file.parent.mkdir(parents=True, exist_ok=True)
        if values:
            found = np.asarray(values)[classes]
            classes = channels(found) if max(values) > 255 else found
        Image.fromarray(classes.astype(np.uint8)).save(file)
        return {"mask": self._short[row]}

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._file is None:
            return
        self._file.close()
        if kind is None:
            os.replace(self._part, self._out)
            self._note.unlink(missing_ok=True)


def _table_of(out: Path) -> Path:
    """The file of lines that ``--out`` asks for."""
    if out.suffix.lower() in (".csv", ".jsonl"):
        return out
    if out.suffix:
        raise UserError(
            "file-ending", f"--out {out}: name a .csv or a .jsonl file, or for masks a folder"
        )
    return out / "predictions.csv"


def _stamp(file: Path) -> list[int] | None:
    """What changes when a file does."""
    try:
        found = file.stat()
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size]


def _plain(x: Any) -> Any:
    """A number, word or list for JSON, as short as it can be written; None for NaN."""
    if isinstance(x, np.ndarray) and x.ndim:
        return [_plain(one) for one in x]
    if isinstance(x, np.generic | np.ndarray | jax.Array):
        x = np.asarray(x)
        if x.dtype.kind == "f":
            return (
                None if not np.isfinite(x) else float(str(np.float32(x) if x.itemsize < 8 else x))
            )
        return x.item()
    return None if isinstance(x, float) and x != x else x
