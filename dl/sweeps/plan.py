"""What each compiled program of a sweep will cost."""

from collections.abc import Callable
from typing import Any

from dl.core.experiment import Experiment
from dl.parallel.devices import Machine
from dl.runs.options import Options
from dl.sweeps.sweep import foreseen
from dl.training.plan import plan_experiment
from dl.training.plan_elsewhere import print_plan


def plan_sweep(
    build: Callable[[Any], Experiment],
    config: Any,
    sweep: Any,
    options: Options,
    convert: Callable[[str, str], Any],
    elsewhere: Machine | None = None,
) -> None:
    """Print what each compiled program of a sweep will cost (see :func:`dl.sweeps.sweep.run_sweep`), here or on
    a machine ``elsewhere``."""
    for group, settings in foreseen(build, config, sweep, options, convert):
        if elsewhere is not None:
            told: Any = {"lanes": len(group.names), "told": settings}
            print_plan(group.experiment, elsewhere, options, **told)
            continue
        plan_experiment(group.experiment, options=options, lanes=len(group.names), told=settings)
