"""`dl plan`."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import tyro

from dl.cli.arguments import swept_values
from dl.cli.flags import load
from dl.core.errors import UserError
from dl.platform import STARTED


def plan(
    experiment: Annotated[Path, tyro.conf.Positional],
    timing: bool = False,
    device: str | None = None,
    largest_batch: bool = False,
) -> None:
    """Parameters, memory and FLOPs of an experiment from its compiled program, without training.

    A sweep is planned program by program; under --mesh memory is that of one device. With --device the
    program is compiled for a machine that need not be here: what it holds, whether it fits, its kernels, what
    devices send each other, and how long a step takes at the least.

    Args:
        experiment: the script, or the name of one of `dl list`; its own flags follow after --.
        timing: also take the seconds from start to the first step apart.
        device: t4, a100, h100, h200, b200 with a number as h100:8, or v5e, v5p, v6e with a slice as v5e:2x4.
        largest_batch: also find the largest batch that fits on --device, by compiling some.
    """
    from dl.core.experiment import built
    from dl.parallel.devices import machine
    from dl.runs.scripts import find_script
    from dl.sweeps.plan import plan_sweep
    from dl.training.plan import plan_experiment
    from dl.training.plan_elsewhere import print_plan

    experiment = find_script(experiment)
    elsewhere = None if device is None else machine(device)  # before JAX opens a backend
    if elsewhere is None and largest_batch:
        raise UserError("option-misplaced", "--largest-batch is of a --device: name one")
    if elsewhere is not None and timing:
        raise UserError("option-misplaced", "--timing is of this machine: leave --device out")
    config, build, options, wish = load(experiment)
    options.refuse_processes("a plan")
    flag = "--timing" if timing else "--largest-batch" if largest_batch else None
    if wish.wanted(config) and flag:
        told = f"{flag} is of one run: leave --seeds, --sweep and --trials out"
        raise UserError("option-misplaced", told)
    if largest_batch and not hasattr(config, "batch_size"):
        told = f"--largest-batch: the config of {experiment.name} has no field batch_size"
        raise UserError("option-misplaced", told)
    if not wish.wanted(config):
        wish.check_unwanted()
    with options.computing():
        if wish.wanted(config):
            convert = swept_values(type(config), build, experiment)
            plan_sweep(build, config, wish, options, convert, elsewhere)
            return
        loaded = time.perf_counter()
        planned = built(build, config)
        spent = {
            "import dl, JAX and the script": loaded - STARTED,
            "load the data and build": time.perf_counter() - loaded,
        }
        if elsewhere is None:
            plan_experiment(planned, spent if timing else None, options)
            return

        def sized(size: int) -> Any:
            return built(build, dataclasses.replace(config, batch_size=size))

        print_plan(planned, elsewhere, options, sized if largest_batch else None)
