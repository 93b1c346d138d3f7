"""A functional deep-learning research toolkit in JAX.

A model, a task, an optimiser and a data set are pure functions and frozen values; everything wanted
from a run is a transformation of one function, ``step(state, batch) -> (state, metrics)``.
"""

from dl import interrupts  # before all else  # isort: skip

import importlib
from typing import TYPE_CHECKING, Any

from dl import platform

platform.configure()

# The public names and where they live. They load on first use, so that `import dl` stays fast.
_PUBLIC = {
    "Batches": "dl.core.experiment",
    "Experiment": "dl.core.experiment",
    "Hook": "dl.core.experiment",
    "Members": "dl.core.recipe",
    "Moment": "dl.core.experiment",
    "NonFiniteError": "dl.core.errors",
    "OptimizerName": "dl.core.optim",
    "Predictor": "dl.training.prediction",
    "Recipe": "dl.core.recipe",
    "Run": "dl.training.run",
    "ScheduleName": "dl.core.optim",
    "Task": "dl.core.task",
    "TrainState": "dl.core.state",
    "UserError": "dl.core.errors",
    "accumulate": "dl.core.step",
    "bounded": "dl.core.errors",
    "digest": "dl.core.state",
    "distill": "dl.core.distillation",
    "ensemble": "dl.core.transforms",
    "eval_batches": "dl.data.batches",
    "eval_step": "dl.core.step",
    "held_out": "dl.data.batches",
    "init_state": "dl.core.state",
    "initialized_from": "dl.core.transforms",
    "load": "dl.data",
    "lora": "dl.core.adapters",
    "main": "dl.cli.script",
    "merge": "dl.core.adapters",
    "mixed_precision": "dl.core.transforms",
    "need": "dl.core.errors",
    "objective": "dl.sweeps.objective",
    "open_run": "dl.training.reopening",
    "optimizer": "dl.core.optim",
    "prepared": "dl.data",
    "scan_steps": "dl.core.step",
    "schedule": "dl.core.optim",
    "sweep": "dl.sweeps.sweep",
    "train": "dl.training.train",
    "train_batches": "dl.data.batches",
    "train_step": "dl.core.step",
}
_MODULES = {
    *("baselines", "core", "data", "figures", "interop", "models", "parallel", "proofs", "report"),
    *("runs", "scores", "sweeps", "tasks", "testing", "training"),
}

__all__ = sorted(_PUBLIC)
__version__ = "0.2.0"

if TYPE_CHECKING:
    from dl.cli.script import main
    from dl.core.adapters import lora, merge
    from dl.core.distillation import distill
    from dl.core.errors import NonFiniteError, UserError, bounded, need
    from dl.core.experiment import Batches, Experiment, Hook, Moment
    from dl.core.optim import OptimizerName, ScheduleName, optimizer, schedule
    from dl.core.recipe import Members, Recipe
    from dl.core.state import TrainState, digest, init_state
    from dl.core.step import accumulate, eval_step, scan_steps, train_step
    from dl.core.task import Task
    from dl.core.transforms import ensemble, initialized_from, mixed_precision
    from dl.data import load, prepared
    from dl.data.batches import eval_batches, held_out, train_batches
    from dl.sweeps.objective import objective
    from dl.sweeps.sweep import sweep
    from dl.training.prediction import Predictor
    from dl.training.reopening import open_run
    from dl.training.run import Run
    from dl.training.train import train


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"dl.{name}")
    else:
        raise AttributeError(f"module 'dl' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC, *_MODULES})
