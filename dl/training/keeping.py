"""What a loop keeps of its states: a run alone its checkpoints, lanes one checkpoint of them all."""

from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError
from dl.core.metrics import Metrics
from dl.core.state import TrainState, plain
from dl.parallel import processes
from dl.runs.files import sync
from dl.training.checkpoints import Checkpoints
from dl.training.compiled import Beginning, Compiled
from dl.training.lane import Lane
from dl.training.leaves import digests, flatten
from dl.training.placing import copied
from dl.training.starting import base_of

Meta = dict[str, Any]  # what a checkpoint says of itself
Digests = dict[
    int, tuple[int, dict[str, str]]
]  # by the place of a lane: its step, its leaves' digests
Kept = tuple[Beginning, Metrics, Meta, Digests]

AT_ONCE = 16  # lanes whose checkpoints are written together


class Keeping(Protocol):
    """Where a loop's states go, and come back from."""

    def restore(self, begin: Beginning, totals: Metrics, say: Any) -> Kept:
        """The newest checkpoint as ``(beginning, running metrics, meta, digests)``; where there is none what is
        given, and nothing."""
        ...

    def improved(self, which: np.ndarray, state: TrainState) -> bool:
        """``state`` is the best so far of the lanes in ``which`` ``[lanes]``; whether to save it now."""
        ...

    def save(self, step: int, state: TrainState, totals: Metrics, meta: Meta) -> Digests:
        """Begin to write a checkpoint; the digests of every lane that moved since the last one."""
        ...

    def selected(self, state: TrainState, say: Any) -> TrainState:
        """The state that the evaluations selected (of every lane); ``state`` is the last."""
        ...

    def finish(self, last: TrainState, selected: TrainState, elapsed: float) -> None:
        """Wait until all is on disk that a finished run leaves behind."""
        ...

    def steps(self) -> list[int]:
        """The steps of the whole checkpoints of a run alone."""
        ...

    def close(self) -> None: ...


def _begun(state: TrainState, meta: dict[str, Any]) -> Beginning:
    return Beginning(int(meta["step"]), state, lambda: state)


def _of(lane: Lane) -> Checkpoints:
    return Checkpoints(lane.folder.checkpoints, kind=lane.kind, base=base_of(lane.folder))


class OwnCheckpoints:
    """A run alone: its folder's checkpoints are the best and the last two."""

    def __init__(self, compiled: Compiled, lane: Lane):
        self.compiled, self.lane = compiled, lane
        self._checkpoints = _of(lane)

    def restore(self, begin: Beginning, totals: Metrics, say: Any) -> Kept:
        if not self.steps():
            return begin, totals, {}, {}
        found = self._checkpoints.restore({"state": begin.state(), "totals": totals}, say=say)
        if found is None:
            return begin, totals, {}, {}
        tree, meta = found
        leaves = {0: (int(meta["step"]), meta["digests"])}
        return _begun(tree["state"], meta), tree["totals"], meta, leaves

    def improved(self, which: np.ndarray, state: TrainState) -> bool:
        return bool(which.any())

    def save(self, step: int, state: TrainState, totals: Metrics, meta: Meta) -> Digests:
        best = self.lane.selection.step
        tree = {"state": state, "totals": totals}
        leaves = self._checkpoints.save(step, tree, meta, set() if best is None else {best})
        return {0: (step, leaves)}

    def selected(self, state: TrainState, say: Any) -> TrainState:
        self._checkpoints.wait()
        best = self.lane.selection.step
        if best is None or best == int(state.step):
            return state
        return restored(self._checkpoints, self.compiled, state, best, say)

    def finish(self, last: TrainState, selected: TrainState, elapsed: float) -> None:
        self._checkpoints.wait()

    def steps(self) -> list[int]:
        self._checkpoints.wait()
        return self._checkpoints.steps()

    def close(self) -> None:
        self._checkpoints.close()


class SharedCheckpoints:
    """Lanes: one folder holds all their states, the best of each among them; at the end each lane gets
    checkpoints of its own, like any run's."""

    def __init__(self, compiled: Compiled, lanes: list[Lane], place: Path):
        self.compiled, self.lanes = compiled, lanes
        self._checkpoints = Checkpoints(place)
        # Lanes sync their own folders alone: a loss of power would take this one, with all that is saved.
        for above in (place.parent, place.parent.parent) if processes.first() else ():
            sync(above)
        self._best: TrainState | None = None
        self._better = jax.jit(
            lambda which, new, old: jax.tree.map(
                lambda n, o: jnp.where(which.reshape(-1, *[1] * (n.ndim - 1)), n, o), new, old
            )
        )

    def restore(self, begin: Beginning, totals: Metrics, say: Any) -> Kept:
        if not self._checkpoints.steps():
            return begin, totals, {}, {}
        state = begin.state()
        template = {"state": state, "totals": totals, "best": state}
        found = self._checkpoints.restore(template, say=say)
        if found is None:
            return begin, totals, {}, {}
        tree, meta = found
        self._best = tree["best"]
        state = tree["state"]
        return _begun(state, meta), tree["totals"], meta, self._leaves(state)

    def improved(self, which: np.ndarray, state: TrainState) -> bool:
        self._best = self._replaced(which, state, self._best_of(state))
        return False

    def _best_of(self, state: TrainState) -> TrainState:
        # A copy, for the state is donated to the next step. Until a lane is evaluated any state will do.
        return copied(state) if self._best is None else self._best

    def _replaced(self, which: np.ndarray, new: TrainState, old: TrainState) -> TrainState:
        """``old`` with the lanes of ``which`` from ``new``, lying where ``old`` did."""
        if not which.any():
            return old
        found = self._better(which, new, old)
        if not self.compiled.layout:
            return found
        return jax.device_put(found, jax.tree.map(lambda x: x.sharding, old))

    def save(self, step: int, state: TrainState, totals: Metrics, meta: Meta) -> Digests:
        leaves = self._leaves(state)
        self._best = self._best_of(state)
        tree = {"state": state, "totals": totals, "best": self._best}
        self._checkpoints.save(step, tree, meta, set())
        return leaves

    def _leaves(self, state: TrainState) -> Digests:
        host, found = jax.device_get(plain(state)), {}
        for place, lane in enumerate(self.lanes):
            own = jax.tree.map(np.asarray, self._pick(host, place))
            if lane.saved != int(own.step):  # a lane at its end stands still
                found[place] = int(own.step), digests(flatten({"state": own}), lane.kind)
        return found

    def _pick(self, tree: Any, place: int) -> Any:
        return self.compiled.pick(tree, place)

    def selected(self, state: TrainState, say: Any) -> TrainState:
        if self.compiled.experiment.select is None:
            return state
        # A lane in which nothing could be selected keeps its last state, as a run of its own does.
        nothing = np.array([lane.selection.best is None for lane in self.lanes])
        return self._replaced(nothing, state, self._best_of(state))

    def finish(self, last: TrainState, selected: TrainState, elapsed: float) -> None:
        totals = self._pick(jax.device_get(self.compiled.empty_metrics()), 0)
        both = [
            jax.device_get(plain(x)) for x in (selected, last)
        ]  # each lane's selected state first
        for start in range(0, len(self.lanes), AT_ONCE):
            group = list(enumerate(self.lanes))[start : start + AT_ONCE]
            folders = {place: _of(lane) for place, lane in group}
            for states in both:
                for place, checkpoints in folders.items():
                    state, best = self._pick(states, place), int(self._pick(both[0], place).step)
                    if int(state.step) not in checkpoints.steps():
                        tree = {"state": state, "totals": totals}
                        checkpoints.save(int(state.step), tree, {"elapsed": elapsed}, {best})
            for checkpoints in folders.values():
                checkpoints.close()

    def steps(self) -> list[int]:
        return []

    def close(self) -> None:
        self._checkpoints.close()


def restored(
    checkpoints: Checkpoints, compiled: Compiled, like: TrainState, step: int | None, say: Any
) -> TrainState:
    """The state of a run's checkpoint at ``step``, or of its newest.

    Raises:
      UserError: there is none.
    """
    template = {"state": like, "totals": compiled.empty_metrics()}
    found = checkpoints.restore(template, step, say)
    if found is None:
        raise UserError(
            "checkpoint-missing", f"{checkpoints.folder} holds no checkpoint: train first"
        )
    return found[0]["state"]
