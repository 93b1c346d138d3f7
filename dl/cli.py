"""The command line: `dl.main(Config, build)` for experiment scripts, and the `dl` command."""

import contextlib
import dataclasses
import errno
import multiprocessing
import os
import shlex
import signal
import sys
import threading
import typing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import tyro

from dl import platform
from dl.core.errors import UserError, unknown

CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
TAKE_FLAGS = ("plan", "verify")  # commands after whose -- a script's own flags follow
ALONE = {"--mesh", "--deterministic-topology", "--coordinator"}  # flags that a sweep refuses
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DISK = (*FULL, *CLOSED)
REMEDIES = {
    **dict.fromkeys(CLOSED, "Make it accessible, or choose another folder"),
    **dict.fromkeys(FULL, "Free some space, or choose another folder"),
    errno.ENOENT: "Make it, or name one that is there",
    errno.EISDIR: "Name a file, not a folder",
    errno.ENOTDIR: "Name a folder, not a file",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.ELOOP: "Its links go in a circle: name where it really lies",
    errno.EIO: "The disk cannot be read or written there",
}


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """A user's mistake ends the process with one line on stderr and exit code 2, no traceback (but
    where ``$DL_TRACEBACK`` asks for one)."""
    platform.lenient_output()
    if os.environ.get("DL_TRACEBACK"):
        yield
        return
    elsewhere = warnings.showwarning

    def one_line(message, category, filename, *where, **more):
        """What a reader of data skipped, filled or guessed, without the line of code that says so."""
        if category is UserWarning and "site-packages" not in filename:
            print(f"note: {message}", file=sys.stderr)
        else:
            elsewhere(message, category, filename, *where, **more)

    warnings.showwarning = one_line
    at_first = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if at_first and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    except UserError as error:
        # What came up inside the user's own model or script may need more than a line to be found.
        _fail(f"{error}{' [DL_TRACEBACK=1 shows all of it]' if error.__cause__ else ''}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        _leave(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os._exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno not in REMEDIES or (error.filename is None and error.errno not in DISK):
            raise
        place = error.filename or "the run folder"
        _fail(f"{error.strerror}: {place}. {REMEDIES[error.errno]} [DL_TRACEBACK=1 shows where]")
    except Exception as error:
        if out_of_memory(error):
            _fail("out of memory: end other programs, or take a machine with more")
        lacking = platform.no_backend() if type(error) in (RuntimeError, AssertionError) else ""
        if not lacking:
            raise
        _fail(lacking)
    finally:
        warnings.showwarning = elsewhere


def out_of_memory(error: Exception) -> bool:
    """Whether it is NumPy's, or XLA's, for memory that the host or the device does not have."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


@contextlib.contextmanager
def _memory_advice(config: Any, sweep: Any) -> Iterator[None]:
    """Where memory runs out, name the flags of this very script that take less of it."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        ways = []
        if hasattr(config, "batch_size"):
            ways.append(f"lower --batch-size ({config.batch_size})")
        if hasattr(config, "micro_batches"):
            ways.append(f"raise --micro-batches ({config.micro_batches})")
        if getattr(config, "bfloat16", None) is False:
            ways.append("compute in --bfloat16")
        if sweep.wanted:
            ways.append("take --lanes map")
        elif _devices() > 1:
            ways.append(f"spread it over devices with --mesh fsdp={_devices()}")
        told = [*ways, "or make the model smaller" if ways else "make the model smaller"]
        raise UserError(f"out of memory: {', '.join(told)}") from None


def _devices() -> int:
    import jax

    return jax.device_count()


def _check_locale(words: list[str]) -> None:
    """Raise UserError where a word, or the folder it is used in, has characters that the locale has no name
    for: Python lets them through in pieces, and the compiler and the checkpoints' library do not."""
    for word in (*words, str(Path.cwd())):
        if not word.isascii() and word.encode("utf-8", "replace").decode() != word:
            raise UserError(
                f"{word!a} cannot be read in this locale: set PYTHONUTF8=1 (or LC_ALL=C.UTF-8) and begin again"
            )


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C as Python has it, but never lost: what is raised while the collector calls JAX back, or in a
    destructor, Python drops; so there it comes again a moment later."""
    while frame is not None:
        if frame.f_code.co_name in ("_xla_gc_callback", "__del__"):
            threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)
    _leave(2)


def _leave(code: int) -> None:
    """End the process at once. All that was to be saved is saved; a compiler at work would be waited for,
    and the checkpoint library's threads print tracebacks as Python winds down after a failed write."""
    for child in multiprocessing.active_children():
        child.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def parse(config: type, build: Callable, argv: list[str] | None, prog: str) -> tuple[Any, Any, Any]:
    """``(config, options, sweep)`` from arguments: the script's own fields, then the run's."""
    from dl.training.options import Options
    from dl.training.sweep import Sweep

    def field(name: str, kind: type):
        flags: Any = tyro.conf.OmitArgPrefixes
        return name, flags[kind], dataclasses.field(default_factory=kind)

    own = {f.name for f in dataclasses.fields(config)}
    for taken in (f.name for kind in (Options, Sweep) for f in dataclasses.fields(kind)):
        if taken in own:
            raise UserError(
                f"the field {taken!r} of {config.__name__} is a flag of every run: rename it"
            )
    parts = [field("config", config), field("run", Options), field("sweep", Sweep)]
    both = dataclasses.make_dataclass("Arguments", parts)
    doc = sys.modules[build.__module__].__doc__ or ""
    args: Any = tyro.cli(both, args=argv, prog=shlex.quote(prog), description=doc.strip())
    return args.config, args.run, args.sweep


def main(
    config: type,
    build: Callable[[Any], Any],
    argv: list[str] | None = None,
    **commands: Callable[..., None],
) -> None:
    """Run an experiment script: parse the command line, build, train, and say what came of it.

    Args:
      config: a frozen dataclass; its fields become flags, their docstrings the help.
      build: ``build(config) -> Experiment``; both must be module-level names of the script, ``Config``
        and ``build``, so that `dl replay`, `dl verify` and ``dl.open_run`` can find them.
      argv: arguments instead of the process's own.
      **commands: what else the script can do, such as reading a file with a trained run: a function by
        the word that then comes first, `script.py transcribe RUN FILE`. Its parameters become
        arguments, its docstring the help.
    """
    given = sys.argv[1:] if argv is None else argv
    with plain_errors():
        _check_locale([sys.argv[0], *given])
        if given and given[0] in commands:
            prog = shlex.join([Path(sys.argv[0]).name, given[0]])
            required = (tyro.conf.PositionalRequiredArgs,)
            tyro.cli(commands[given[0]], args=given[1:], prog=prog, config=required)
            return
        from dl.core.experiment import built
        from dl.training import processes
        from dl.training.run import train
        from dl.training.scripts import check_config

        check_config(config, build)
        script = Path(sys.modules[build.__module__].__file__ or "experiment.py")
        chosen, options, sweep = parse(config, build, argv, script.name)
        # Before build, which may compute: JAX learns of other processes only before it begins.
        processes.join(options.coordinator, options.processes, options.process)
        with _memory_advice(chosen, sweep):
            if sweep.wanted:
                sys.exit(_sweep(config, build, chosen, sweep, options, script, given))
            sweep.check_unwanted()
            run = train(built(build, chosen), script=script, **_given(options))
        code = _report(run, script, given, processes.first())
    sys.exit(code)


def _again(script: Path, given: list[str], *more: str) -> str:
    """The command that a shell takes for the one that was typed, with its ``given`` flags but for the
    run's name and whether to resume it, and with ``more``."""
    kept, name = [], False
    for word in given:
        if name or word == "--resume" or word.startswith("--name="):
            name = False
        elif word == "--name":
            name = True
        else:
            kept.append(word)
    return shlex.join(["python", str(script), *kept, *more])


def _sweep(
    config: type,
    build: Callable,
    chosen: Any,
    sweep: Any,
    options: Any,
    script: Path,
    given: list[str],
) -> int:
    """Run a sweep and print its table; returns the exit code."""
    from dl.report.sweeps import print_report
    from dl.training.sweep import run_sweep

    convert = swept_values(config, build, script)
    place = run_sweep(build, chosen, sweep, options, convert, script)
    if not (place / "result.json").exists():
        print(f"go on with: {_again(script, given, '--name', place.name, '--resume')}")
        return 130
    print_report(place)
    print(f"sweep folder: {place} (a run folder each under lanes/)")
    lane = min(str(path) for path in (place / "lanes").iterdir())
    print("next:", shlex.join(["dl", "sweep", "report", str(place)]))
    print("next:", shlex.join(["dl", "replay", lane]))
    return 0


def swept_values(config: type, build: Callable, script: Path) -> Callable[[str, str], Any]:
    """``(field, text) -> value`` of a sweep; the parser reads what has a type of its own."""
    from dl.training.grid import converter

    def other(name: str, text: str) -> Any:
        flag = "--" + name.replace("_", "-")
        return getattr(parse(config, build, [flag, *text.split()], script.name)[0], name)

    return converter(typing.get_type_hints(config), other)


def _given(options: Any) -> dict[str, Any]:
    return {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}


def _report(run: Any, script: Path, given: list[str], first: bool) -> int:
    """Say how a run ended, and what can be done next, in its ``first`` process; returns the exit code."""
    if not first:
        return 0 if run.folder.finished() else 128 + getattr(signal, run.ended)
    if not run.folder.finished():
        print(f"go on with: {_again(script, given, '--name', run.folder.name, '--resume')}")
        return 128 + getattr(signal, run.ended)
    run.plot()
    result = run.result
    for metric, value in sorted(run.metrics.items()):
        if metric.startswith("test/") and isinstance(value, int | float):
            print(f"{metric.replace('/', ' ')}: {value:.4f}")
    rule = result["selected"]["rule"]
    found = result["selected"]["value"] is not None
    chosen = f"step {result['selected']['step']}, {f'best by {rule}' if found else 'the last'}"
    print(
        f"selected {chosen}; {result['wall_seconds']:.0f} s, of which {result['compile_seconds']:.0f} s "
        f"compiling; {result['examples_per_second']:,.0f} examples/s"
    )
    print(f"run folder: {run.folder.path} (metrics.jsonl, result.json)")
    # A line each, so that one can be copied whole.
    print("next:", shlex.join(["dl", "replay", str(run.folder.path)]))
    print("next:", shlex.join(["dl", "report", str(run.folder.path)]))
    if not {word.partition("=")[0] for word in given} & ALONE:
        print("next:", _again(script, given, "--seeds", "3"))
    return 0


@contextlib.contextmanager
def _flags_after_dashes(words: list[str]) -> Iterator[None]:
    """Where a script's own flags were given to `dl plan` or `dl verify`, say where they belong."""
    try:
        yield
    except SystemExit as left:
        if left.code == 2 and len(words) > 2 and words[0] in TAKE_FLAGS:
            meant = shlex.join(["dl", *words[:2], "--", *words[2:]])
            print(f"the script's own flags follow after --: {meant}", file=sys.stderr)
        raise


def dl() -> None:
    """The ``dl`` command."""
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    words = sys.argv[1:end] or ["--help"]
    if words == ["--version"]:
        from dl import __version__

        print(f"dl {__version__}")
        return
    with plain_errors(), _flags_after_dashes(words):
        from dl.commands import COMMANDS

        _check_locale(sys.argv)
        if words[0] not in COMMANDS and not words[0].startswith("-"):
            raise unknown("command", words[0], COMMANDS)
        if end + 1 < len(sys.argv) and words[0] in COMMANDS and words[0] not in TAKE_FLAGS:
            raise UserError(
                f"dl {words[0]} takes no flags of a script: leave -- and what follows it out"
            )
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            args=words,
            prog="dl",
            description="A functional deep-learning research toolkit in JAX.",
        )
