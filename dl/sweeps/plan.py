"""What each compiled program of a sweep will cost."""

from collections.abc import Callable
from typing import Any

from dl.core.experiment import Experiment
from dl.runs.options import Options
from dl.sweeps.sweep import foreseen
from dl.training.plan import plan_experiment


def plan_sweep(
    build: Callable[[Any], Experiment],
    config: Any,
    sweep: Any,
    options: Options,
    convert: Callable[[str, str], Any],
) -> None:
    """Print what each compiled program of a sweep will cost (see :func:`dl.sweeps.sweep.run_sweep`)."""
    for group, settings in foreseen(build, config, sweep, options, convert):
        plan_experiment(group.experiment, options=options, lanes=len(group.names), told=settings)
