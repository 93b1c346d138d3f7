"""The words of a command line: a script's own fields, the run's options, what is swept."""

import dataclasses
import functools
import shlex
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from dl.core.errors import UserError


def parse(config: type, build: Callable, argv: list[str] | None, prog: str) -> tuple[Any, Any, Any]:
    """``(config, options, sweep)`` from arguments: the script's own fields, then the run's."""
    from dl.runs.options import Options
    from dl.sweeps.sweep import Sweep

    def field(name: str, kind: type):
        flags: Any = tyro.conf.OmitArgPrefixes
        start = starts.get(name, kind)
        return name, flags[kind], dataclasses.field(default_factory=lambda: start())

    own = {f.name for f in dataclasses.fields(config)}
    for taken in (f.name for kind in (Options, Sweep, FromFile) for f in dataclasses.fields(kind)):
        if taken in own:
            raise UserError(
                "field-is-flag",
                f"the field {taken!r} of {config.__name__} is a flag of every run: leave it out, or rename it",
            )
    kinds = {"config": config, "run": Options, "sweep": Sweep, "file": FromFile}
    file, argv = _config_file(sys.argv[1:] if argv is None else argv)
    starts = {}
    if file is not None:
        from dl.runs.toml import over

        kept = over({name: kind() for name, kind in kinds.items() if kind is not FromFile}, file)
        starts = {name: functools.partial(dataclasses.replace, own) for name, own in kept.items()}
    both = dataclasses.make_dataclass("Arguments", [field(*part) for part in kinds.items()])
    words = {word.partition("=")[0] for word in argv}
    for asked, has in (("steps", "epochs"), ("epochs", "steps")):
        if f"--{asked}" in words and asked not in own and has in own:
            told = "passes over the training set" if has == "epochs" else "steps of the optimiser"
            raise UserError(
                "option-misplaced", f"--{asked}: this script counts its length by --{has}, {told}"
            )
    if words & {"--fold", "--folds"} and "folds" not in own:
        raise UserError(
            "option-misplaced",
            "--folds: this script's Config has not the fields of its data, such as OwnTable, which bring it "
            "(docs/own-data.md): leave it out, or mix them in",
        )
    doc = sys.modules[build.__module__].__doc__ or ""
    args: Any = tyro.cli(both, args=argv, prog=shlex.quote(prog), description=doc.strip())
    return args.config, args.run, args.sweep


@dataclasses.dataclass(frozen=True)
class FromFile:
    """Flags from a file."""

    config: Path | None = None
    """a TOML file of values for these flags, as `dl config RUN` writes it; a flag beside it wins"""


def _config_file(argv: list[str]) -> tuple[Path | None, list[str]]:
    """The file of ``--config``, which is read before all else, and the other words."""
    found: list[str] = []
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        flag, sign, value = word.partition("=")
        if flag != "--config":
            words.append(word)
        elif sign or (value := next(rest, "")):
            found.append(value)
        else:
            raise UserError("option-misplaced", "--config needs a TOML file: --config FILE")
    if len(found) > 1:
        raise UserError("options-exclusive", f"give one --config, not {' and '.join(found)}")
    return (Path(found[0]) if found else None), words


def swept_values(config: type, build: Callable, script: Path) -> Callable[[str, str], Any]:
    """``(field, text) -> value`` of a sweep; the parser reads what has a type of its own."""
    from dl.sweeps.search_space import converter

    def other(name: str, text: str) -> Any:
        flag = "--" + name.replace("_", "-")
        return getattr(parse(config, build, [flag, *text.split()], script.name)[0], name)

    return converter(typing.get_type_hints(config), other)


def again(script: Path, given: list[str], *more: str) -> str:
    """The command that a shell takes for the one that was typed, with its ``given`` flags but for the
    run's name and whether to resume it, and with ``more``."""
    from dl.runs.scripts import reads_flags, shipped

    if script.absolute().parent == shipped():
        start = ["dl", "run", script.stem]
    else:
        start = [*(["python"] if reads_flags(script) else ["dl", "run"]), str(script)]
    return shlex.join([*start, *unnamed(given), *more])


def unnamed(given: list[str]) -> list[str]:
    """Flags but for the run's name and whether to resume it."""
    return without([word for word in given if word != "--resume"], "--name")


def without(given: list[str], *flags: str) -> list[str]:
    """The words but for ``flags``, which take a value each."""
    kept, value = [], False
    for word in given:
        if value or word.partition("=")[0] in flags:
            value = not value and "=" not in word
        else:
            kept.append(word)
    return kept


def check_locale(words: list[str]) -> None:
    """Raise UserError where a word, or the folder it is used in, has characters that the locale has no name
    for: Python lets them through in pieces, and the compiler and the checkpoints' library do not."""
    for word in (*words, str(Path.cwd())):
        if not word.isascii() and word.encode("utf-8", "replace").decode() != word:
            raise UserError(
                "locale",
                f"{word!a} cannot be read in this locale: set PYTHONUTF8=1 (or LC_ALL=C.UTF-8) and begin again",
            )
