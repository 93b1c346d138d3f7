"""`dl runs` and `dl config`: what runs there are, and what becomes of them."""

import json as notation
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from dl.core.errors import UserError

HEEDED: dict[str | None, tuple[str, ...]] = {
    None: ("where", "sort", "columns", "best", "csv", "json"),
    "diff": (),
    "remove": ("yes",),
    "archive": ("to", "keep", "yes"),
}


def runs(
    words: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    where: tuple[str, ...] = (),
    sort: str | None = None,
    columns: tuple[str, ...] = (),
    best: str | None = None,
    csv: bool = False,
    json: bool = False,
    runs: Path = Path("runs"),
    to: Path | None = None,
    keep: bool = False,
    yes: bool = False,
) -> None:
    """Runs and sweeps: `dl runs [FOLDER]` lists them, `dl runs diff A B` says what sets two runs apart,
    `dl runs remove NAME...` and `dl runs archive NAME... --to FOLDER|FILE.tar.gz` take some away.

    A sweep is one line, by its best lane; with --where, --sort or --best each of its lanes is a line. What others
    were begun from (forks, --start) and what is in training is not taken away.

    Args:
      words: a folder of runs, by default --runs; or what to do, and names of runs in that folder, or paths.
      where: those alone of which this holds, such as 'learning_rate<1e-3' 'test/accuracy>0.9' data=mnist.
      sort: by this field or metric, downwards with a minus: -validation/accuracy; by default the newest come last.
      columns: fields and metrics to show.
      best: print nothing but the path of the finished run that is best by a metric; lowest with a minus.
      csv: print csv; without --columns with every field and metric.
      json: print JSON.
      runs: the folder that holds the runs.
      to: where the archive goes: a folder, or a file that ends in .tar.gz.
      keep: archive, and take nothing away.
      yes: do not ask.
    """
    from dl.runs.files import printable
    from dl.runs.removing import archive, chosen, remove

    action = words[0] if words and words[0] in HEEDED else None
    given: dict[str, Any] = {
        "where": where,
        "sort": sort,
        "columns": columns,
        "best": best,
        "csv": csv,
        "json": json,
    }
    given |= {"to": to, "keep": keep, "yes": yes}
    for flag, value in given.items():
        if value and flag not in HEEDED[action]:
            told = f"--{flag} is not for dl runs{f' {action}' if action else ''}: leave it out"
            raise UserError("option-misplaced", told)
    if action is None:
        if len(words) > 1:
            raise UserError("option-misplaced", f"dl runs lists one folder: {words[1]} is too much")
        _list(words[0] if words else runs, where, sort, columns, best, csv, json)
        return
    if action == "diff":
        _diff(words[1:], runs)
        return
    if len(words) < 2:
        raise UserError("run-unnamed", f"dl runs {action} needs the names of runs: see dl runs")
    if action == "archive" and to is None:
        raise UserError(
            "run-unnamed", "dl runs archive needs a place: --to FOLDER, or --to FILE.tar.gz"
        )
    places = chosen(words[1:], runs)
    if not keep and not yes:
        _ask(printable(f"{action} {', '.join(p.name for p in places)}?"))
    if to is not None:
        print(printable(f"written: {', '.join(map(str, archive(places, to, keep)))}"))
    else:
        remove(places)
    if not keep:
        print(printable(f"removed: {', '.join(words[1:])}"))


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise UserError("not-confirmed", f"{question} Nobody is there to say so: give --yes")
    print(f"{question} [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("not-confirmed", "nothing was taken away")


def _list(
    folder: str | Path,
    where: tuple[str, ...],
    sort: str | None,
    columns: tuple[str, ...],
    best: str | None,
    csv: bool,
    json: bool,
) -> None:
    from dl.runs import listing
    from dl.runs.files import printable
    from dl.runs.folder import to_json
    from dl.runs.records import show

    if csv and json:
        raise UserError("options-exclusive", "give one of --csv and --json")
    rows, bad = listing.list_runs(folder, lanes=bool(where or sort or best))
    for error in bad:
        print(f"left out: {printable(error)}", file=sys.stderr)
    listing.check_names(columns, rows)
    everything = rows
    rows = listing.where(rows, where)
    if best is not None:
        listing.check_names([best.removeprefix("-")], everything)
        print(printable(listing.best(rows, best).path))
        return
    if sort is not None:
        listing.check_names([sort.removeprefix("-")], everything)
        rows = listing.ordered(rows, sort)
    if json:
        told = [
            {**{n: r.get(n) for n in listing.OWN}, "config": r.run.config, "metrics": r.metrics}
            for r in rows
        ]
        print(notation.dumps(to_json(told), indent=2))
        return
    if csv:
        from dl.data.readers.csv_text import csv_line

        names = columns or tuple(dict.fromkeys(name for row in rows for name in row.names))
        print(csv_line([printable(name) for name in names]), end="")
        for row in rows:
            print(csv_line([_cell(row.get(name)) for name in names]), end="")
        return
    if not rows:
        print(
            f"no run {'of ' + str(len(everything)) + ' fits' if everything else f'in {folder}'}",
            file=sys.stderr,
        )
        return
    asked = [t.group(1) for t in map(listing._TERM.fullmatch, where) if t]
    names = columns or tuple(
        dict.fromkeys([*listing.SHOWN, *asked, *([sort.removeprefix("-")] if sort else [])])
    )
    cells = [list(names)]
    for row in rows:
        values = [row.get(name) for name in names]
        cells.append(
            [
                "" if v is None else f"{v:.4g}" if isinstance(v, float) else printable(show(v))
                for v in values
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print(
            "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip()
        )


def _cell(value: Any) -> Any:
    from dl.runs.files import printable

    value = "" if value is None else value
    return value if isinstance(value, int | float) else printable(value)


def _diff(names: tuple[str, ...], runs: Path) -> None:
    from dl.runs import store
    from dl.runs.compare import apart, first_difference
    from dl.runs.files import printable
    from dl.runs.folder import RunFolder
    from dl.runs.records import read_run

    if len(names) != 2:
        raise UserError("run-unnamed", "dl runs diff needs two runs: dl runs diff first second")
    found = [
        store.opened(n if (Path(n) / "config.json").exists() or store.url(n) else runs / n)
        for n in names
    ]
    pair = [read_run(path) for path in found]
    lines = [("", *names), *apart(*pair)]
    widths = [max(len(line[place]) for line in lines) for place in (0, 1)]
    for name, a, b in lines if lines[1:] else ():
        print(printable(f"{name:<{widths[0]}}  {a:<{widths[1]}}  {b}").rstrip())
    parted = first_difference(*(RunFolder(path, writes=False) for path in found))
    told = parted or "every bit that both recorded is the same"
    print(printable(f"they part at {told}" if told.startswith("step ") else told))


def config(run: Annotated[Path, tyro.conf.Positional]) -> None:
    """Print a run's values as TOML, from which a script trains it again: `dl config RUN > file.toml`, then
    `python script.py --config file.toml`. Flags beside the file win over it.

    Args:
      run: the run's folder.
    """
    from dl.runs import lock, store
    from dl.runs.files import printable
    from dl.runs.folder import RunFolder, read_json
    from dl.runs.options import Options, kept_options
    from dl.runs.readers import entry
    from dl.runs.toml import written

    folder = RunFolder(store.opened(run), writes=False)
    stored, locked = read_json(folder.config), lock.read(folder)
    values = entry(folder.config, stored, "config", dict, None)
    if values is None:
        raise UserError(
            "config-not-recorded", f"{run} was started without a config: there is none to print"
        )
    every = {
        n: entry(folder.config, stored, n, int) for n in ("eval_every", "save_every", "log_every")
    }
    usual = Options().cadence(entry(folder.config, stored, "steps", int) or 1)
    usual["save_every"] = every["eval_every"] or usual["save_every"]
    found = {name: value for name, value in every.items() if value not in (None, usual[name])}
    found |= kept_options(stored)
    environment = locked["environment"]
    mesh = entry(folder.lock, environment.get("devices") or {}, "mesh", str, None)
    found |= {n: v for n, v in (("data_dir", environment.get("data_dir")), ("mesh", mesh)) if v}
    script = locked["script"] and Path(locked["script"]).name
    print(printable(f"# {run}{f', a run of {script}' if script else ''}"))
    if ancestor := entry(folder.lock, locked, "ancestor", dict):
        print(printable(f"# It was branched off {ancestor.get('run')}, which no values tell."))
    tables = {n: v for n, v in values.items() if isinstance(v, dict)}
    plain = {n: v for n, v in values.items() if n not in tables}
    print(written({**plain, **found, **tables}), end="")
