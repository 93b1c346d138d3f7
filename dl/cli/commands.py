"""What the `dl` command can do, a function each: its docstring is its help."""

import ast
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.progress import track

from dl.cli.flags import extra, load
from dl.cli.plan import plan
from dl.cli.runs import config, runs
from dl.cli.submit import submit
from dl.cli.trained import evaluate, export, fork, predict
from dl.core.errors import UserError, unknown
from dl.runs.files import printable


def list_experiments(folder: tyro.conf.Positional[Path | None] = None) -> None:
    """List experiment scripts with one line each; `dl run NAME` starts one.

    Args:
      folder: of scripts of your own; by default those that come with dl.
    """
    from dl.runs.scripts import shipped

    scripts = sorted((folder or shipped()).glob("*.py"))
    if not scripts:
        raise UserError(
            "no-scripts", f"no experiment scripts in {folder}/: give the folder that holds them"
        )
    for path in scripts:
        doc = ast.get_docstring(ast.parse(path.read_bytes())) or ""
        print(f"{path.stem:<28} {doc.splitlines()[0] if doc else ''}")


def run(script: tyro.conf.Positional[Path]) -> None:
    """Run an experiment script by its name, from any folder: `dl run image_classification --data PATH`.

    Args:
      script: one of `dl list`, or a path; its own flags follow, --help among them.
    """
    from dl.runs.scripts import find_script, load_script, reads_flags

    found, given = find_script(script), sys.argv[3:]  # after dl run NAME
    if not reads_flags(found):
        from dl.cli.script import main

        main(*load_script(found), given)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, str(found), *given])


def data(
    action: Annotated[str, tyro.conf.Positional],
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    data_dir: Path | None = None,
    kind: str | None = None,
    out: Path | None = None,
    tokenizer: str | None = None,
    vocabulary: int | None = None,
) -> None:
    """Data sets: `dl data list`, `dl data info NAME`, `dl data prepare NAME`, `dl data show NAME_OR_PATH`, and
    `dl data tokens TEXTS --out FOLDER`.

    A set or files of your own are shown as a page: examples, labels, sizes, repeats, columns to distrust. What
    says how to read your files follows after --: `dl data show reviews.csv --kind texts -- --label stars`.

    Texts (files, folders, tables) are cut into tokens once, and language models take the folder as --data:
    `dl data tokens books/ news.parquet --out tokens --tokenizer bpe -- --hold-out 0.01 0`.

    Args:
        action: list, info, prepare, show or tokens.
        names: the data set; tfds:NAME for one of TensorFlow Datasets; to show, also a file or folder.
        data_dir: folder with one sub-folder a data set; by default $DL_DATA_DIR, else the user's cache.
        kind: what your files are: pictures, boxes, masks, texts, pairs, corpus, recordings, transcripts, series,
            table or ratings; by default what they look like.
        out: the page to write; by default data-NAME.html. Of tokens the folder, which must not be there.
        tokenizer: bytes (the default), chars, words, bpe or wordpiece, made of the texts; or the file or folder of
            one.
        vocabulary: how many different tokens, where the tokenizer is made.
    """
    import dl.data

    if data_dir is not None and action in ("list", "info"):
        raise UserError("option-misplaced", f"dl data {action} reads no data: leave --data-dir out")
    given: Any = {
        "--kind": kind,
        "--out": out,
        "--tokenizer": tokenizer,
        "--vocabulary": vocabulary,
    }
    heeded = {"show": ("--kind", "--out"), "tokens": ("--out", "--tokenizer", "--vocabulary")}
    for flag, value in given.items():
        if value is not None and flag not in heeded.get(action, ()):
            actions = " and ".join(f"dl data {name}" for name in heeded if flag in heeded[name])
            said = f"{flag} is for {actions}, not for dl data {action}"
            raise UserError("option-misplaced", said)
    if action == "list":
        if names:
            raise UserError(
                "option-misplaced", f"dl data list shows all sets: for one, dl data info {names[0]}"
            )
        for known in dl.data.names():
            info = dl.data.describe(known)
            print(f"{known:<16} {info.task:<18} {info.title}")
        print("tfds:NAME        any                Every set of TensorFlow Datasets")
        return
    if action not in ("info", "prepare", "show", "tokens"):
        raise unknown("action", action, ("list", "info", "prepare", "show", "tokens"))
    if not names:
        raise UserError(
            "data-set-unnamed", f"dl data {action} needs the name of a data set: see dl data list"
        )
    if action == "tokens":
        _write_tokens(names, data_dir, out, tokenizer or "bytes", vocabulary)
        return
    if names[1:]:
        said = f"dl data {action} takes one data set at a time: leave {names[1]} out"
        raise UserError("option-misplaced", said)
    (name,) = names
    if action == "show":
        _show_data(name, data_dir, kind, out)
        return
    info = dl.data.describe(name) if action == "info" else dl.data.prepare(name, data_dir)
    for field in dataclasses.fields(info):
        value = getattr(info, field.name)
        if value:
            print(printable(f"{field.name:<12} {value}"))


def _check_page(file: Path, flag: str) -> None:
    """Raise UserError where no page can be written."""
    from dl.runs.files import check_writable

    if file.is_dir() or not file.parent.is_dir():
        raise UserError(
            "file-write", f"the page cannot be {file}: name a file in a folder that is there"
        )
    check_writable(file, flag)


def _show_data(name: str, data_dir: Path | None, kind: str | None, out: Path | None) -> None:
    import dl.data
    from dl.data.own.door import options_of
    from dl.data.own.kinds import guessed_kind
    from dl.report.data import default_file, write_data_page

    dl.data.use_data_folder(data_dir)
    _check_page(out or default_file(name), "--out")
    if kind is None and not extra() and name in dl.data.names():
        splits = dl.data.load(name)
    else:
        kind = kind or guessed_kind(name)
        options = options_of(kind)
        print(f"read as {kind} (if it is something else, say --kind)", file=sys.stderr)
        own: Any = tyro.cli(options, args=extra(), prog=f"dl data show {name} --")
        splits = dl.data.open(name, kind, own)  # type: ignore[arg-type]
    file = out or default_file(name)
    for line in write_data_page(splits, file) or ["nothing odd was found"]:
        print(printable(f"- {line}"))
    print(printable(f"written: {file}"))


def _write_tokens(texts, data_dir, out, tokenizer: str, vocabulary: int | None) -> None:
    import dl.data
    from dl.data.own.corpus import OwnCorpus
    from dl.data.own.token_writing import write_tokens

    if out is None:
        said = "dl data tokens writes a folder: name it by --out FOLDER"
        raise UserError("data-set-unnamed", said)
    dl.data.use_data_folder(data_dir)
    own = tyro.cli(OwnCorpus, args=extra(), prog="dl data tokens TEXTS --out FOLDER --")
    about = write_tokens(texts, out, tokenizer, vocabulary, own)
    for part, found in about["parts"].items():
        print(f"{part:<12} {found['count']:,} tokens")
    print(f"{about['vocabulary']:,} different, {about['dtype']}; written: {out}")


def verify(
    experiment: Annotated[Path, tyro.conf.Positional],
    kills: int = 3,
    seed: int = 0,
) -> None:
    """Prove exact resume: run whole, run again killed at several moments, compare every bit.

    Args:
        experiment: the script, or the name of one of `dl list`; its own flags follow after --.
        kills: SIGKILLs at random steps, besides one at the start, in a checkpoint's write, and in an evaluation.
        seed: of the random steps.
    """
    from dl.proofs.verify import verify_script
    from dl.runs.scripts import find_script

    experiment = find_script(experiment)
    config, _, options, wish = load(experiment)
    options.refuse_processes("dl verify")
    if wish.wanted(config):
        raise UserError(
            "option-misplaced", "dl verify proves one run: leave --seeds, --sweep and --trials out"
        )
    wish.check_unwanted()
    for name in ("name", "runs", "resume"):
        if getattr(options, name) != getattr(type(options)(), name):
            raise UserError(
                "option-misplaced",
                f"dl verify names and resumes runs of its own: leave --{name} out",
            )
    if not verify_script(experiment, extra(), kills=kills, seed=seed):
        sys.exit(1)


def replay(
    run: Annotated[Path, tyro.conf.Positional],
    script: Path | None = None,
    trust: bool = False,
    force: bool = False,
) -> None:
    """Run again from the lock and say "identical", or the first step and leaf that differ.

    Args:
        run: the run's folder.
        script: the experiment's script, where it is another file than the run was started with.
        trust: run the script that the folder names, whatever it is now.
        force: go on where versions, devices, data or code differ from the lock.
    """
    from dl.proofs.replay import replay_run

    if not replay_run(run, script=script, trust=trust, force=force):
        sys.exit(1)


def sweep(
    action: Annotated[str, tyro.conf.Positional],
    folder: Annotated[Path, tyro.conf.Positional],
) -> None:
    """`dl sweep report DIR`: the table (mean and sd over seeds), and plots as PNG and HTML.

    Args:
      action: report.
      folder: the sweep's folder.
    """
    from dl.report.sweeps import print_report, write_report
    from dl.runs import store

    if action != "report":
        raise unknown("action", action, ("report",))
    place = store.opened(folder)
    print_report(place)
    print(printable(f"written: {', '.join(str(path) for path in write_report(place))}"))


def report(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    output: Path | None = None,
    inspect: int = 3,
    slice: str = "",
    script: Path | None = None,
    trust: bool = False,
) -> None:
    """One self-contained HTML page of a run, or comparing several: curves, tables, pictures, layers.

    Args:
      runs: run folders, sweeps, or folders that hold them, such as runs/.
      output: the file; by default report.html in the folder given, or in the one above several.
      inspect: settings, best first, whose first run is rebuilt by its script for the confusion matrix
        and the layers; 0 for none.
      slice: columns of their data's table, COLUMN[,COLUMN]: the metrics of the test rows by what each holds.
      script: the experiment's script, where it is another file than the runs were started with.
      trust: run the scripts that the folders name, whatever they are now.
    """
    from dl.report import inspection
    from dl.report.runs import default_file, write_page
    from dl.runs import store
    from dl.runs.records import find_runs, grouped
    from dl.training.reopening import open_run

    if inspect < 0:
        raise UserError(
            "range", f"--inspect {inspect}: give the number of settings to look into, or 0"
        )
    if not runs:
        raise UserError(
            "run-unnamed", "give the folder of a run, or one that holds runs: dl report runs/"
        )
    runs = tuple(store.opened(run) for run in runs)
    found = find_runs(runs)
    file = output or default_file(runs)
    _check_page(file, "--output")
    inside: dict[Path, inspection.Inspection | str] = {}
    for setting in track(grouped(found)[:inspect], "looking into runs", disable=inspect < 1):
        path = setting.runs[0].path
        try:
            opened = open_run(path, script=script, trust=trust)
            inside[path] = looked = inspection.inspect(opened.experiment, opened.state)
            if slice:
                inside[path] = looked._replace(slices=opened.slices(slice))
        except Exception as error:  # of a stranger's config in one's own script, any
            inside.setdefault(path, f"Not rebuilt: {error}")
            without = "slices" if isinstance(inside[path], inspection.Inspection) else "its layers"
            told = f"{path.name} is shown without {without}: {error}"
            print(printable(told), file=sys.stderr)
    print(printable(f"written: {write_page(found, inside, file)}"))


def reproduce(
    row: tyro.conf.Positional[tuple[str, ...]] = (),
    data_dir: Path | None = None,
    runs: Path = Path("runs/reproduce"),
    experiments: Path | None = None,
) -> None:
    """Run rows of the project's results again and say pass or short; without one, list them.

    Args:
        row: names of rows or of their figures, of scripts for all of theirs, or all.
        data_dir: folder with one sub-folder a data set; by default $DL_DATA_DIR, else the user's cache.
        runs: where the runs go.
        experiments: the scripts' folder, with results.toml; by default experiments/, else that of dl's own.
    """
    from dl.proofs import reproduce as again
    from dl.runs.scripts import shipped

    here = Path("experiments")
    experiments = experiments or (here if (here / "results.toml").is_file() else shipped())
    known = again.rows(experiments)
    if not row:
        for one in known:
            minutes = "" if one.minutes is None else f"about {one.minutes:g} min"
            figure = "" if one.reached is None else f"{one.reached:g}"
            print(f"{one.name:<29} {figure:>8}  {minutes:<13} {one.script} {' '.join(one.flags)}")
        print("\nrun some with dl reproduce NAME [NAME ...], or all of them with dl reproduce all")
        return
    short, lines = 0, []
    for one, good, said in again.reproduce(again.choose(known, row), experiments, runs, data_dir):
        short += not good
        lines.append(f"{'pass ' if good else 'short'}  {one.name:<29} {said}")
        print(lines[-1], flush=True)
    if len(lines) > 1:
        print("\n" + "\n".join(lines))
    sys.exit(1 if short else 0)


def watch(
    run: Annotated[Path, tyro.conf.Positional],
    once: bool = False,
    only: tuple[str, ...] = (),
) -> None:
    """A run's curves in the terminal, drawn again as it goes on, until it ends or Ctrl-C.

    Args:
      run: the run's folder.
      once: draw what is there, and go.
      only: metrics to draw, such as loss; all by default.
    """
    from dl.report.watch import watch_run

    watch_run(run, once=once, only=only)


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_experiments,
    "run": run,
    "data": data,
    "plan": plan,
    "submit": submit,
    "verify": verify,
    "replay": replay,
    "runs": runs,
    "config": config,
    "sweep": sweep,
    "predict": predict,
    "fork": fork,
    "evaluate": evaluate,
    "export": export,
    "report": report,
    "reproduce": reproduce,
    "watch": watch,
}
