"""``dl.main(Config, build)``, the last line of an experiment script."""

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tyro

from dl.cli.arguments import again, check_locale, parse, swept_values, without
from dl.cli.errors import out_of_memory, plain_errors, stopped_code
from dl.core.errors import UserError

ALONE = {"--mesh", "--deterministic-topology"}  # flags that a sweep refuses


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
    from dl.runs.scripts import leave_if_loading

    leave_if_loading()
    given = sys.argv[1:] if argv is None else argv
    with plain_errors():
        check_locale([sys.argv[0], *given])
        if given and given[0] in commands:
            prog = shlex.join([Path(sys.argv[0]).name, given[0]])
            required = (tyro.conf.PositionalRequiredArgs,)
            tyro.cli(commands[given[0]], args=given[1:], prog=prog, config=required)
            return
        from dl.data.readers.files import use_data_folder
        from dl.parallel import processes
        from dl.runs.scripts import check_config, script_of
        from dl.training.train import start

        check_config(config, build)
        script = script_of(config, build) or Path("experiment.py")
        chosen, options, sweep = parse(config, build, argv, script.name)
        use_data_folder(options.data_dir)  # of a script before it in this process no longer
        with _memory_advice(chosen, sweep):
            if sweep.wanted(chosen):
                sys.exit(_sweep(config, build, chosen, sweep, options, script, given))
            sweep.check_unwanted()
            run = start(build, chosen, options, script)
        code = _report(run, script, given, processes.first())
    sys.exit(code)


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
    from dl.runs import store
    from dl.runs.readers import read_baselines
    from dl.sweeps.sweep import run_sweep
    from dl.training.console import format_metrics

    convert = swept_values(config, build, script)
    done = run_sweep(build, chosen, sweep, options, convert, script)
    place = done.folder
    if not done.first:
        return 0 if done.ended == "done" else stopped_code(done.ended)
    if done.ended != "done":
        print(f"go on with: {again(script, given, '--name', place.name, '--resume')}")
        return stopped_code(done.ended)
    print_report(place)
    first = done.settings[0]["lanes"][0]["path"]  # of the best setting, where there is one
    for name, reached in read_baselines(first).items():
        print(f"beside it, {name}: {format_metrics(reached)}")
    print(f"sweep folder: {store.named(str(place))} (a run folder each under lanes/)")
    print("next:", shlex.join(["dl", "sweep", "report", store.named(str(place))]))
    print("next:", shlex.join(["dl", "replay", store.named(str(first))]))
    return 0


def _report(run: Any, script: Path, given: list[str], first: bool) -> int:
    """Say how a run ended, and what can be done next, in its ``first`` process; returns the exit code."""
    from dl.runs import store
    from dl.runs.readers import read_baselines
    from dl.training.console import by_number

    if not first:
        return 0 if run.folder.finished() else stopped_code(run.ended)
    if not run.folder.finished():
        print(f"go on with: {again(script, given, '--name', run.folder.name, '--resume')}")
        return stopped_code(run.ended)
    run.plot()
    result = run.result
    rivals = read_baselines(run.folder.path)
    part = "test/" if any(name.startswith("test/") for name in run.metrics) else "validation/"
    for metric in sorted(run.metrics, key=by_number):
        value = run.metrics[metric]
        if metric.startswith(part) and isinstance(value, int | float):
            named = [f"{name} {own[metric]:.4f}" for name, own in rivals.items() if metric in own]
            beside = f"  ({', '.join(named)})" if named else ""
            print(f"{metric.replace('/', ' ')}: {value:.4f}{beside}")
    rule = result["selected"]["rule"]
    found, rate = result["selected"]["value"] is not None, result["examples_per_second"]
    chosen = f"step {result['selected']['step']}, {f'best by {rule}' if found else 'the last'}"
    print(
        f"selected {chosen}; {result['wall_seconds']:.0f} s, of which {result['compile_seconds']:.0f} s "
        f"compiling{f'; {rate:,.0f} examples/s' if rate else ''}"  # 0: no step was left to this process
    )
    place = store.named(str(run.folder.path))
    print(f"run folder: {place} (metrics.jsonl, result.json)")
    # A line each, so that one can be copied whole.
    print("next:", shlex.join(["dl", "replay", place]))
    print("next:", shlex.join(["dl", "report", place]))
    if not {word.partition("=")[0] for word in given} & ALONE:
        alone = without(given, "--coordinator", "--processes", "--process")
        print("next:", again(script, alone, "--seeds", "3"))
    return 0


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
        if sweep.wanted(config):
            ways.append("take --lanes map")
        elif _devices() > 1:
            ways.append(f"spread it over devices with --mesh fsdp={_devices()}")
        told = [*ways, "or make the model smaller" if ways else "make the model smaller"]
        raise UserError("out-of-memory", f"out of memory: {', '.join(told)}") from None


def _devices() -> int:
    import jax

    return jax.device_count()
