"""Experiment scripts as modules: a ``Config`` dataclass and a ``build(config)``."""

import ast
import contextvars
import dataclasses
import enum
import hashlib
import importlib.util
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dl.core.errors import UserError, unknown
from dl.runs.files import lies_within
from dl.runs.functions import called

LARGEST = 2**24  # bytes of a script

_loading: contextvars.ContextVar[Any] = contextvars.ContextVar(
    "loading", default=None
)  # the module


class _Loaded(BaseException):
    """A script that is loaded came to where it would train: no exception that it may catch."""


def leave_if_loading(training: bool = True) -> None:
    """Called where ``training`` begins, a command, or else where a run is opened: what a script does when it is
    run, and not when its ``Config`` and ``build`` are fetched. One without a main guard is loaded up to there; but
    a run that is opened before both are there, such as a teacher, is."""
    module = _loading.get()
    if module is not None and (
        training or (hasattr(module, "Config") and hasattr(module, "build"))
    ):
        raise _Loaded


def shipped() -> Path:
    """The folder of the scripts that come with ``dl``: beside the package, in a checkout and installed."""
    beside = Path(__file__).parents[2]
    installed = beside / "dl_experiments"
    return installed if installed.is_dir() else beside / "experiments"


def find_script(name: Path) -> Path:
    """The shipped script of that name, ``gpt`` for ``experiments/gpt.py``, whatever lies in the current folder; or
    the one of that path.

    Raises:
      UserError: there is neither.
    """
    own = shipped() / f"{name.stem}.py"
    if len(name.parts) == 1 and own.is_file() and not (name.suffix and name.is_file()):
        return own
    if name.is_file():
        return name
    if len(name.parts) == 1 and not name.suffix:
        raise unknown("script", str(name), (path.stem for path in shipped().glob("*.py")))
    raise UserError("file-missing", f"there is no experiment script {name}")


def command(script: Path) -> list[str]:
    """The words that start a script, its flags to follow: Python's, or `dl run` for one that never calls
    ``dl.main``, which would heed no flag. A folder ``dl`` beside where it starts is not taken for dl (-P)."""
    here = Path(__file__).parents[2] == Path.cwd()
    through = (*(() if here else ("-P",)), "-m", "dl", "run")
    return [sys.executable, *(() if reads_flags(script) else through), str(script)]


def reads_flags(script: Path) -> bool:
    """Whether it calls a function ``main``; of what is no Python, Python says so itself."""
    try:
        calls = [
            x.func for x in ast.walk(ast.parse(script.read_bytes())) if isinstance(x, ast.Call)
        ]
    except (SyntaxError, ValueError, OSError):
        return True
    return any(getattr(f, "attr", getattr(f, "id", None)) == "main" for f in calls)


def load_script(path: Path) -> tuple[type, Callable[[Any], Any]]:
    """``(Config, build)`` of the experiment script at ``path``, without running it: one that trains under no
    ``if __name__ == "__main__":`` is loaded up to there."""
    if not path.is_file():
        raise UserError("file-missing", f"there is no experiment script {path}")
    spec = importlib.util.spec_from_file_location(f"dl_script_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError("script-not-python", f"{path} is not a Python script")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    beside = str(path.parent.absolute())
    if beside not in sys.path:  # where Python itself looks for what a script imports
        sys.path.insert(0, beside)
    token = _loading.set(module)
    try:
        spec.loader.exec_module(module)
    except _Loaded:
        pass
    except SyntaxError as error:
        raise UserError("script-syntax", f"{path}, line {error.lineno}: {error.msg}") from None
    except ModuleNotFoundError as error:
        raise UserError(
            "script-import", f"{path} imports {error.name}, which is not installed here"
        ) from error
    except Exception as error:
        raise UserError(
            "script-fails", f"{path} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    finally:
        _loading.reset(token)
    config, build = getattr(module, "Config", None), getattr(module, "build", None)
    if config is None or build is None:
        raise UserError(
            "script-without-build",
            f"{path} is no experiment: it needs a dataclass Config and build(config)",
        )
    check_config(config, build)
    return config, build


def trusted_script(
    folder: Path,
    locked: Mapping[str, Any],
    script: str | os.PathLike[str] | None = None,
    trust: bool = False,
) -> Path | None:
    """The script that may rebuild the run in ``folder``; None where the run had none. What lies in a folder may
    be a stranger's, so a script that its lock names runs only where it is the very one that the run was
    started with, and lies elsewhere (or is the one that is running).

    Args:
      script: the user's own choice; trust: take whichever the lock names.

    Raises:
      UserError: it is not that script, or not here.
    """
    named = locked["script"] if script is None else script
    if named is None:
        return None
    path = Path(named)
    running = getattr(sys.modules["__main__"], "__file__", None)
    own = folder.parent.parent if folder.absolute().parent.name == "lanes" else folder
    if script is not None:
        return path
    try:
        if not path.is_file():  # such as of a run that comes from another machine
            raise UserError(
                "file-missing",
                f"{folder} was started by the script {path}, which is not here: name it where it is now "
                "(--script FILE, open_run(..., script=FILE))",
            )
        if trust or (running and path.samefile(running)):
            return path
    except OSError as error:
        raise UserError("file-read", f"{path}, which {folder} names: {error.strerror}") from None
    code = locked["environment"].get("code")
    known = code.get("script") if isinstance(code, dict) else None
    if not path.is_absolute() or _leads_anywhere(path):
        odd = "is no full path to a file, as locks hold"
    elif lies_within(path, own) or path.absolute().is_relative_to(own.absolute()):
        odd = "lies in the run's own folder"
    elif path.stat().st_size > LARGEST or hashlib.sha256(path.read_bytes()).hexdigest() != known:
        odd = "is not as it was when the run was started"
    else:
        return path
    raise UserError(
        "script-untrusted",
        f"{folder} names the script {path}, which {odd}, so it is not run: bring it back as it was, name the "
        "right one (--script FILE, open_run(..., script=FILE)), or, where you know whose it is, say so "
        "(--trust, trust=True)",
    )


def _leads_anywhere(path: Path) -> bool:
    """Whether a full path goes through the system's own names of where a process stands and what it has open: of
    others a stranger does not know where the folder will lie."""
    place = "/"
    for part in path.parts[1:]:  # as the system does it: .. after a link may lead elsewhere
        place = os.path.realpath(os.path.join(place, part))
        if (place.lower() + "/").startswith("/proc/"):  # where /dev/fd leads, too
            return True
    return False


def check_config(config: Any, build: Any) -> None:
    """Raise UserError where ``config`` is no frozen dataclass with a default for every field, or ``build``
    no function."""
    if not callable(build):
        raise UserError(
            "build-not-function", f"build must be a function of the config, not {build!r}"
        )
    if not isinstance(config, type):
        raise UserError(
            "config-not-class",
            f"the config is given as its class, Config and not Config(): {config!r:.100}",
        )
    name = config.__name__
    if not dataclasses.is_dataclass(config) or not config.__dataclass_params__.frozen:  # type: ignore
        raise UserError(
            "config-not-dataclass",
            f"{name} must be a frozen dataclass: write @dataclasses.dataclass(frozen=True) above it",
        )
    known = {field.name for field in dataclasses.fields(config)}
    for field in dataclasses.fields(config):
        if field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(
                "config-no-default", f"the field {field.name!r} of {name} needs a default value"
            )
    plain = (int, float, str, bool, tuple, list, dict, type(None))
    for word, value in vars(config).items():
        if not word.startswith("_") and word not in known and type(value) in plain:
            raise UserError(
                "config-no-type",
                f"{word!r} of {name} has no type, so it is no field and no flag: write "
                f"{word}: {type(value).__name__} = {value!r}",
            )


def script_of(kind: type, build: Callable[[Any], Any]) -> Path | None:
    """The script that has the config's class and ``build`` by the names ``Config`` and ``build``, either of which
    may come from another, so that it rebuilds the run; else the one that defines the class; None in a notebook,
    and of a program that Python reads from its input."""
    both = [sys.modules.get(name) for name in (getattr(build, "__module__", ""), kind.__module__)]
    fits = [m for m in both if (getattr(m, "Config", 0), getattr(m, "build", 0)) == (kind, build)]
    file = getattr((fits or both[1:])[0], "__file__", None) or "<none>"
    return None if file.startswith("<") or kind.__module__ == "builtins" else Path(file)


def chosen_script(
    given: str | Path | None, config: Any, build: Callable[[Any], Any]
) -> Path | None:
    """The script that was ``given``, else that of the experiment (:func:`script_of`).

    Raises:
      UserError: there is no such file.
    """
    path = Path(given) if given else script_of(type(config), build)
    if path is not None and not path.is_file():
        raise UserError(
            "file-missing", f"there is no script {path}: give the file that builds this experiment"
        )
    return path


def from_json(kind: type, values: dict[str, Any] | None) -> Any:
    """A config dataclass from what ``config.json`` stored of it.

    Raises:
      UserError: it stored none, fields that there are no more, or a function other than its field's default.
    """
    if values is None:
        raise UserError(
            "config-not-recorded",
            "this run was started without a config, dl.train(build(config)), so nothing can rebuild it: "
            "give open_run build= and config=",
        )
    fields = {f.name for f in dataclasses.fields(kind)}
    for name in values:
        if name not in fields and name != "data_dir":  # once a field, now an option of the run
            raise unknown(f"field of {kind.__name__}", name, fields)
    hints, usual = (
        typing.get_type_hints(kind),
        {f.name: f.default for f in dataclasses.fields(kind)},
    )

    def own(name: str, value: Any) -> Any:
        default: Any = usual[name]
        if isinstance(value, str) and callable(default) and called(default) == value:
            return default
        if isinstance(value, str) and _is_function(hints[name]):
            raise UserError(
                "config-of-functions",
                f"the field {name!r} of {kind.__name__} was {value}, a function, of which a run's folder keeps "
                "the name alone: give open_run build= and config=, or choose functions by a word that build reads",
            )
        return revive(hints[name], value)

    try:
        return kind(**{n: own(n, value) for n, value in values.items() if n in fields})
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(
            "record-damaged", f"what is stored of the config is no {kind.__name__} ({error})"
        ) from error


def _is_function(hint: Any) -> bool:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(map(_is_function, typing.get_args(hint)))
    return Callable in (hint, typing.get_origin(hint)) or type in (hint, typing.get_origin(hint))


def revive(hint: Any, value: Any) -> Any:
    """``value`` as JSON kept it, back in the type that ``hint`` names."""
    if value is None:
        return None
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [h for h in typing.get_args(hint) if h is not type(None)]
        return revive(inner[0], value) if len(inner) == 1 else value
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value)
    if typing.get_origin(hint) is tuple:
        kinds = list(typing.get_args(hint))
        kinds = [kinds[0]] * len(value) if kinds[1:] == [...] else kinds
        return tuple(revive(h, v) for h, v in zip(kinds, value, strict=True))
    if typing.get_origin(hint) in (list, set, frozenset):
        (kind,) = typing.get_args(hint)
        return typing.get_origin(hint)(revive(kind, v) for v in value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return choice(hint, value)
    if isinstance(hint, type) and issubclass(hint, Path | set | frozenset):
        return hint(value)
    many = isinstance(value, list | dict)
    if hint in (int, float, bool, str) and (
        many or (isinstance(value, str) and hint in (int, bool))
    ):
        raise TypeError(f"{value!r:.40} in place of {hint.__name__}")
    return float(value) if hint is float else value


def choice(hint: type[enum.Enum], value: Any) -> enum.Enum:
    """The member of an enumeration by its value, if that is text or a number, or else by its name.

    Raises:
      ValueError: there is none.
    """
    for name, member in hint.__members__.items():
        if value == name or (isinstance(member, str | int) and value == member.value):
            return member
    raise ValueError(f"{value!r:.40} is none of {', '.join(hint.__members__)}")
