"""One run among those that a loop drives: its folder, its selection, and how it ended."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from dl.core.errors import UserError
from dl.parallel import processes
from dl.runs import lock
from dl.runs.compare import begun_at
from dl.runs.folder import RunFolder, to_json
from dl.training.leaves import state_digest
from dl.training.selection import Selection
from dl.training.trackers import Tracker

LOOK = 100  # steps, at least, between those of which it is logged how far they move the parameters


@dataclasses.dataclass(frozen=True)
class Cadence:
    """The steps at which something happens, for a run of ``steps``."""

    steps: int
    log_every: int
    eval_every: int
    save_every: int
    hooks: tuple[int, ...] = ()  # steps between the calls of each
    profile: tuple[int, int] | None = None  # the steps at which a trace begins and ends

    def next(self, step: int) -> int:
        """The first event after ``step``."""
        every = (self.log_every, self.eval_every, self.save_every, *self.hooks)
        later = (at for at in self.profile or () if at > step)
        return min(self.steps, *((step // n + 1) * n for n in every), *later)

    def watched(self, step: int) -> bool:
        """Whether it is logged how far the step that ends at ``step`` moves the parameters: in a hundred or more
        it costs nothing that counts."""
        return step % (self.log_every * -(-LOOK // self.log_every)) == 0

    def due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.steps

    def only_log(self, step: int) -> bool:
        """Whether nothing at ``step`` needs the state itself, so that the device need not wait."""
        every = (self.eval_every, self.save_every)
        apart = step in (self.profile or ()) or any(step % n == 0 for n in self.hooks)
        return not (apart or any(self.due(step, n) for n in every))


def branched_at(folder: RunFolder) -> int:
    """The step that a run began at: 0, or that of the run it was forked from."""

    return processes.on_first_process(lambda: begun_at(folder))


@dataclasses.dataclass
class Lane:
    """One run that a loop drives, alone or among others.

    Attributes:
      folder: where it is recorded; trackers: who else gets the scalars.
      selection: what its evaluations have selected so far.
      ended: how it ended: 'done', 'early', 'halved', 'non-finite'; None while it runs.
      note: what more there is to say of its end.
      saved: the step of the last state whose digest is recorded; digested: of the last whose leaves' are.
      evaluated: the metrics of its last evaluation.
      seen: hashes what was logged so far, clocks left out; the checkpoints keep its digest.
    """

    folder: RunFolder
    selection: Selection
    trackers: Sequence[Tracker] = ()
    ended: str | None = None
    note: str = ""
    saved: int | None = None
    digested: int | None = None
    evaluated: dict[str, Any] = dataclasses.field(default_factory=dict)
    seen: Any = dataclasses.field(default_factory=hashlib.sha256)

    @functools.cached_property
    def kind(self) -> str:
        """Of the digests of its states."""
        return processes.on_first_process(lambda: lock.digests_of(self.folder))

    def record(self, event: str, step: int, metrics: dict[str, Any], **extra: Any) -> None:
        """One line of metrics.jsonl. What may differ between equal runs stands under 'time'."""
        line = {"event": event, "step": step, "metrics": metrics, **extra}
        self.folder.append(self.folder.metrics, line)
        self._see(to_json(line))
        scalars = {k: v for k, v in metrics.items() if isinstance(v, float | int)}
        if event == "train":
            scalars |= {f"time/{name}": value for name, value in extra.get("time", {}).items()}
        for tracker in self.trackers:
            tracker.write(step, scalars)

    def _see(self, line: dict[str, Any]) -> None:
        if line["event"] in ("train", "eval"):
            told = json.dumps({**line, "time": None}, sort_keys=True)
            self.seen.update(told.encode())

    def record_state(self, step: int, leaves: dict[str, str], clock: dict[str, Any]) -> None:
        """The state's digest as a line of metrics.jsonl, its leaves' as one of digests.jsonl."""
        # A kill or a loss of power may have come between the two.
        if step != self.saved:
            self.record("checkpoint", step, {}, digest=state_digest(leaves), time=clock)
        if step != self.digested:
            self.folder.append(self.folder.digests, {"step": step, "leaves": leaves})
        self.saved = self.digested = step

    def sync(self) -> None:
        """Have all that was recorded be safe, with the trackers too."""
        self.folder.sync()
        for tracker in self.trackers:
            tracker.flush()

    def go_on(
        self,
        step: int,
        cadence: Cadence,
        evaluated: bool,
        digest: str | None,
        state: tuple[int, dict[str, str]] | None,
    ) -> None:
        """Forget what was logged after ``step`` and select by what was evaluated up to it.

        Args:
          digest: of what was logged up to ``step``, as the checkpoint keeps it; None where it has none.
          state: the step of the lane's state in the checkpoint, and its leaves' digests.

        Raises:
          UserError: lines up to ``step`` are gone or others, for the run would then select another state
            than it would have.
        """
        seen, told = set(), {}
        for record in processes.on_first_process(lambda: list(self.folder.records())):
            if record["step"] > step:  # will be logged again
                continue
            seen.add((record["event"], record["step"]))
            self._see(record)
            if record["event"] == "checkpoint":
                told[record["step"]] = record.get("digest")
            if record["event"] == "eval":
                self.selection = self.selection.update(record["step"], record["metrics"])
        first = branched_at(self.folder)
        every = {"train": cadence.log_every} | ({"eval": cadence.eval_every} if evaluated else {})
        # One that has ended did so at a step of its own, from which on nothing was logged.
        for event, often in every.items() if self.ended is None else ():
            for due in (*range(often, step + 1, often), *([step] if step == cadence.steps else [])):
                if due > first and (event, due) not in seen:
                    raise UserError(
                        "log-cut-off",
                        f"{self.folder.metrics} has lost what was logged at step {due} ({event}): "
                        "restore it from a copy, or start anew under another --name",
                    )
        if digest is not None and digest != self.seen.hexdigest():
            raise UserError(
                "log-changed",
                f"{self.folder.metrics} is not what it was when the checkpoint of step {step} was saved: "
                "restore it from a copy, or start anew under another --name",
            )
        self.folder.truncate(step)
        self.saved, self.digested = processes.on_first_process(lambda: self._states(told, state))
        for tracker in self.trackers:
            tracker.go_on(step)

    def _states(
        self, told: dict[int, str | None], state: tuple[int, dict[str, str]] | None
    ) -> list[int | None]:
        """The last steps whose state metrics.jsonl (the digests ``told``, by step) and digests.jsonl tell of. What
        they say of the checkpoint's own ``state`` is forgotten where that is another: it is written again.

        Raises:
          UserError: they say different things of an older one.
        """
        folder, (step, leaves) = self.folder, state or (-1, {})
        listed = folder.records(folder.digests) if folder.digests.exists() else ()
        kept = {record["step"]: state_digest(record["leaves"]) for record in listed}
        for path, found in ((folder.metrics, told), (folder.digests, kept)):
            if step in found and found[step] != state_digest(leaves):
                folder.forget_state(path, step)
                del found[step]
        for older in kept.keys() & told.keys():
            if told[older] not in (None, kept[older]):
                raise UserError(
                    "log-changed",
                    f"{folder.digests} has other digests of the state at step {older} than {folder.metrics.name}: "
                    "restore both from a copy, or start anew under another --name",
                )
        return [max(found, default=None) for found in (told, kept)]

    def last(self, event: str, step: int | None = None) -> dict[str, Any]:
        """The last line of an event (at ``step``), the same in every process; empty where there is none."""

        def find() -> dict[str, Any]:
            lines = [r for r in self.folder.records() if r["event"] == event]
            lines = [r for r in lines if step is None or r["step"] == step]
            return lines[-1] if lines else {}

        return processes.on_first_process(find)

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.close()
