"""An experiment's hooks: host functions that look on, each called once a step however often a run is killed."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from dl.core.errors import UserError, bounded, one_line
from dl.core.experiment import Experiment, Hook, Moment
from dl.core.state import TrainState
from dl.parallel import processes
from dl.runs import files
from dl.runs.options import Options
from dl.training.evaluation import Evaluation, local
from dl.training.lane import Cadence, Lane
from dl.training.profiling import profiled


def hooks_of(experiment: Experiment) -> tuple[Hook, ...]:
    """The hooks with their names.

    Raises:
      UserError: one is no function, or two have one name.
    """
    found: dict[str, Hook] = {}
    if not isinstance(experiment.hooks, list | tuple):
        raise UserError(
            "not-a-function", f"hooks are several, (hook,), unlike {experiment.hooks!r:.60}"
        )
    for given in experiment.hooks:
        hook = given if isinstance(given, Hook) else Hook(given)
        name = hook.name or getattr(hook.function, "__name__", type(hook.function).__name__)
        if not callable(hook.function):
            raise UserError(
                "not-a-function", f"hooks must be functions or dl.Hook, not {given!r:.60}"
            )
        if name in found:
            raise UserError(
                "hook-twice",
                f"two hooks are called {name!r}, and what they did is kept by it: dl.Hook(..., name=) tells them "
                "apart",
            )
        bounded(f"every of the hook {name!r}", hook.every, at_least=1, whole=True)
        found[name] = Hook(hook.function, hook.every, name)
    return tuple(found.values())


def cadence_of(experiment: Experiment, options: Options) -> Cadence:
    """The steps at which something happens in this run."""
    hooks = tuple(hook.every for hook in hooks_of(experiment) if hook.every is not None)
    every, trace = options.cadence(experiment.steps), profiled(options.profile, experiment.steps)
    return Cadence(experiment.steps, **every, hooks=hooks, profile=trace)


class Hooks:
    """Calls the hooks of a loop's lanes, and keeps in each run's ``hooks.jsonl`` what they were done with."""

    def __init__(self, evaluation: Evaluation, lanes: list[Lane], say: Callable[[str], Any]):
        self.hooks = hooks_of(evaluation.compiled.experiment)
        self.evaluation, self.lanes, self.say = evaluation, lanes, say

    @functools.cached_property
    def _done(self) -> list[dict[tuple[str, int], dict[str, float]]]:
        """Of each lane the calls that earlier processes were done with, and the numbers they gave."""

        def read(lane: Lane) -> dict[tuple[str, int], dict[str, float]]:
            file = lane.folder.path / FILE
            lines = list(lane.folder.records(file))
            if file.exists() and lane.folder.writes:  # a kill may have torn the last line
                files.replace(file, "".join(json.dumps(x) + "\n" for x in lines).encode())
            return {(line["hook"], line["step"]): line["metrics"] for line in lines}

        return [processes.on_first_process(functools.partial(read, lane)) for lane in self.lanes]

    def at(self, place: int, step: int, state: TrainState, metrics: Any) -> None:
        """Call those due at ``step``; ``metrics`` are of the lane's evaluation there, or None."""
        lane = self.lanes[place]
        due = [
            hook
            for hook in self.hooks
            if (metrics is not None if hook.every is None else step % hook.every == 0)
        ]
        new = [hook for hook in due if (hook.name, step) not in self._done[place]]
        moment = self._moment(place, step, state, metrics or {}) if new else None
        for hook in due:
            found = self._done[place].get((hook.name, step))
            if found is None:
                found = processes.on_first_process(
                    functools.partial(self._called, lane, hook, moment)
                )
            if found:
                lane.record("hook", step, {f"{hook.name}/{n}": x for n, x in found.items()})

    def _moment(self, place: int, step: int, state: TrainState, metrics: Any) -> Moment:
        own = jax.device_get(local(self.evaluation.compiled.pick(state, place)))
        own = jax.tree.map(_read_only, own)
        return Moment(step, dict(metrics), own, self.evaluation.predictor(state, place))

    def _called(self, lane: Lane, hook: Hook, moment: Any) -> dict[str, float] | None:
        """The numbers that a hook gave; None where it failed, which is told and stops nothing."""
        try:
            given = hook.function(moment) or {}
            if not isinstance(given, Mapping) or any(
                np.ndim(x) or isinstance(x, str) for x in given.values()
            ):
                raise TypeError(
                    f"it must return a dict of single numbers or None, not {given!r:.60}"
                )
            found = {str(name): float(value) for name, value in given.items()}
        except Exception as error:  # of someone's own code, any
            self.say(
                f"the hook {hook.name!r} failed at step {moment.step}, and the run goes on: "
                f"{type(error).__name__}: {one_line(error)}"
            )
            return None
        line = {"event": "hook", "step": moment.step, "hook": hook.name, "metrics": found}
        lane.folder.append(lane.folder.path / FILE, line)
        files.sync(lane.folder.path / FILE)
        lane.folder.sync()  # into a store, where the run lies in one
        return found


FILE = "hooks.jsonl"


def _read_only(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        leaf = leaf.view()
        leaf.flags.writeable = False
    return leaf
