"""What the `dl` command does with a run that is trained, a function each: its docstring is its help."""

import contextlib
import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro

from dl.cli.errors import stopped_code
from dl.core.errors import UserError, unknown
from dl.runs.files import printable


def evaluate(
    run: Annotated[Path, tyro.conf.Positional],
    data: str | None = None,
    slice: str = "",
    reading: tuple[str, ...] = (),
    out: Path | None = None,
    script: Path | None = None,
    trust: bool = False,
    force: bool = False,
) -> None:
    """Judge a run by other data: every metric of its test set, and the middle 95 % over resamples of its rows.

    The data are read as the run's own, by the names of their columns and classes, and prepared by its script.
    Metrics that are no mean over rows, such as auc, have no interval.

    Args:
      run: the run's folder.
      data: a file or folder of the kind that the run was trained on; by default the run's own test rows.
      slice: columns of the data's table, COLUMN[,COLUMN], read by the model or not: also the metrics by each.
      reading: how these data are written where the run's own are not: encoding=cp1252 and other field=value.
      out: also write the scores there, as JSON.
      script: the experiment's script, where it is another file than the run was started with.
      trust: run the script that the folder names, whatever it is now.
      force: judge it although the data it was trained on are not those any more.
    """
    from dl.runs.files import check_writable
    from dl.runs.folder import write_json
    from dl.training.console import by_number
    from dl.training.judging import judged
    from dl.training.reopening import open_run

    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        said = f"the scores cannot be {out}: name a file in a folder that is there"
        raise UserError("file-write", said)
    if out is not None:
        check_writable(out, "--out")
    opened = open_run(run, script=script, trust=trust, force=force)
    with _as_reading(opened):
        fields = _values(opened, reading, "--reading", script, trust)
        scores, slices = judged(opened, data, slice, **fields)

    def show(scores: dict[str, Any], indent: str = "") -> dict[str, Any]:
        for name in sorted(scores, key=by_number):
            value, low, high = scores[name]
            between = "" if low != low else f"   {low:.4f} ... {high:.4f}"
            print(f"{indent}{name:<20} {value:.4f}{between}")
        return {name: score._asdict() for name, score in scores.items()}

    written: dict[str, Any] = show(scores)
    for column, values in slices.items():
        for value, found in values.items():
            rows = found.pop("rows")
            print(printable(f"\n{column} = {value}: {rows:,} row{'s' * (rows != 1)}"))
            told = {"rows": rows, **show(found, "  ")}
            written.setdefault("slices", {}).setdefault(column, {})[value] = told
    if out is not None:
        write_json(out, written)
        print(printable(f"written: {out}"))


def predict(
    run: Annotated[Path, tyro.conf.Positional],
    files: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path | None = None,
    batch_size: int = 0,
    reading: tuple[str, ...] = (),
    script: Path | None = None,
    trust: bool = False,
    force: bool = False,
) -> None:
    """Predict for files: a class and its probabilities, a value, a text, boxes or a mask, each by its name.

    The files are of the kind that the run was trained on, and are prepared by its script. Stopped, the same
    command goes on where the last whole batch ended.

    Args:
      run: the run's folder.
      files: pictures or recordings, folders or tables of them; tables of rows or texts; files of text.
      out: a .csv or .jsonl file; for masks a folder; by default csv is printed.
      batch_size: rows computed at once; by default as many as an evaluation's.
      reading: how these files are written where the run's own are not: encoding=cp1252 and other field=value.
      script: the experiment's script, where it is another file than the run was started with.
      trust: run the script that the folder names, whatever it is now.
      force: predict although the data it was trained on are not those any more.
    """
    from dl.training.predicting import predict_files
    from dl.training.reopening import open_run

    opened = open_run(run, script=script, trust=trust, force=force)
    with _as_reading(opened):
        fields = _values(opened, reading, "--reading", script, trust)
        rows = predict_files(opened, files, out, batch_size, **fields)
    if out is not None:
        print(printable(f"written: {out} ({rows:,} row{'s' * (rows != 1)})"))


def export(
    run: Annotated[Path, tyro.conf.Positional],
    to: Path | None = None,
    platforms: tuple[str, ...] = ("cpu", "cuda", "rocm", "tpu"),
    script: Path | None = None,
    trust: bool = False,
    force: bool = False,
) -> None:
    """Write a run's predictor as one program (jax.export, StableHLO) that needs neither dl nor flax.

    Args:
        run: the run's folder.
        to: the file; by default predict.jaxexport in that folder, of a run in an object store in this one.
        platforms: where it shall run.
        script: the experiment's script, where it is another file than the run was started with.
        trust: run the script that the folder names, whatever it is now.
        force: export it although its data are not those it was started with.
    """
    from dl import interop
    from dl.runs import store
    from dl.runs.files import check_writable
    from dl.training.reopening import open_run

    file = to or (Path() if store.url(run) else run) / "predict.jaxexport"
    check_writable(file, "--to")
    opened = open_run(run, script=script, trust=trust, force=force)
    done = interop.export(opened, file, platforms=platforms)
    kinds = ", ".join(done.platforms)
    print(printable(f"written: {done.path} ({done.path.stat().st_size / 1e6:.2f} MB) for {kinds}"))
    print(printable(f"and its StableHLO: {done.path.with_suffix('.stablehlo')}"))
    if done.fixed is not None:
        print(f"the batch size is fixed, since the model cannot be traced without it: {done.fixed}")
    print(f"\nWhere jax and flatbuffers are, it is loaded by\n\n{done.snippet}\n")


def fork(
    run: Annotated[Path, tyro.conf.Positional],
    values: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    at: int | None = None,
    name: str | None = None,
    runs: Path | None = None,
    script: Path | None = None,
    trust: bool = False,
) -> None:
    """Train on from a state of a run with other values: `dl fork runs/first --at 500 learning_rate=1e-3`.

    The new run takes the steps that a run of those values takes in that state; its lock names the old one.
    A finished run goes on where a value makes it longer: `dl fork runs/first epochs=20`.

    Args:
      run: the run's folder.
      values: fields of the config, as field=value.
      at: the step to begin at, kept or not; by default the last one saved.
      name: of the new run; by default that of the old one, with the step.
      runs: folder that is to hold the new run; by default the one that holds the old.
      script: the experiment's script, where it is another file than the run was started with.
      trust: run the script that the folder names, whatever it is now.
    """
    from dl.training.console import format_metrics
    from dl.training.forking import fork as branch
    from dl.training.reopening import open_run

    opened = open_run(run, script=script, trust=trust)
    given = _values(opened, values, "", script, trust)
    done = branch(opened, at, name, given, script=_script(opened, script, trust), runs=runs)
    if done.folder.finished():
        print(format_metrics(done.metrics))
    print(f"run folder: {done.folder.path}")
    sys.exit(0 if done.folder.finished() else stopped_code(done.ended))


def _script(opened: Any, script: Path | None, trust: bool) -> Path | None:
    """The script that rebuilt an opened run, whose folder is here wherever the run lies."""
    from dl.runs.folder import read_json
    from dl.runs.scripts import trusted_script

    return trusted_script(opened.folder.path, read_json(opened.folder.lock), script, trust)


def _values(
    opened: Any, words: tuple[str, ...], flag: str, script: Path | None, trust: bool
) -> dict[str, Any]:
    """Fields of a run's config by words field=value, each of its type, as its script reads them."""
    from dl.cli.arguments import swept_values

    given: dict[str, Any] = {}
    for word in words:
        field, sign, text = word.partition("=")
        if not sign:
            such = "encoding=cp1252" if flag else "learning_rate=1e-3"
            raise UserError(
                "fork-value", f"{flag} {word}: give field=value, such as {such}".lstrip()
            )
        given[field] = text
    build = opened.experiment.build
    path = _script(opened, script, trust) if given and build is not None else None
    if path is None:
        return given
    # Of the script as it was opened: loaded anew, its enumerations and nested configs would be others.
    kind = type(opened.experiment.config)
    known = {field.name for field in dataclasses.fields(kind)}
    what = f"field of {kind.__name__}"
    if flag:
        from dl.data.own.tested import reading_options

        known, what = known & reading_options(kind), f"{flag} of this run's data,"
        if given and not known:
            raise UserError(
                "option-misplaced",
                f"{flag} {next(iter(given))}: {kind.__name__} of this run's script has no fields of its data, "
                "such as OwnPictures brings; in Python run.evaluate and run.predict_files take them by name",
            )
    for field in given:
        if field not in known:
            raise unknown(what, field, known)
    convert = swept_values(kind, build, path)
    try:
        return {field: convert(field, text) for field, text in given.items()}
    except UserError as error:
        error.message = f"{flag} {error.message.removeprefix('--sweep ')}".lstrip()
        raise


@contextlib.contextmanager
def _as_reading(opened: Any) -> Iterator[None]:
    """What is said of fields of the data, as this command takes them."""
    from dl.data.own.found import in_fields
    from dl.data.own.tested import reading_options

    names = reading_options(type(opened.experiment.config))
    flags = "|".join(sorted(names)).replace("_", "-")
    flag = re.compile(rf"(?<!\S)--({flags or '(?!)'})(?![\w-])(?: ('[^']*'))?")
    try:
        yield
    except UserError as error:
        error.message = flag.sub(
            lambda said: f"--reading {said[1].replace('-', '_')}={said[2] or '...'}",
            in_fields(error.message, "reading"),
        )
        raise
