"""A run as a function of its values, for searches that choose them elsewhere: Optuna, Ray, Vizier."""

import dataclasses
import hashlib
import json
import math
import re
import signal
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from dl.core.errors import UserError, unknown
from dl.core.experiment import Experiment, built, unboxed
from dl.runs import store
from dl.runs.folder import RunFolder, to_json
from dl.runs.listing import FILES
from dl.runs.lock import script_digest
from dl.runs.options import chosen_options
from dl.runs.readers import read_object, read_result
from dl.runs.records import runs_within
from dl.runs.scripts import chosen_script, leave_if_loading
from dl.runs.toml import typed
from dl.sweeps.groups import Sweep
from dl.sweeps.naming import words
from dl.sweeps.search_space import Overrides
from dl.sweeps.sweep import carry_out
from dl.training.console import Console
from dl.training.train import train


class Objective:
    """``score = objective(learning_rate=1e-3)``: see :func:`objective`.

    Attributes:
      folder: where the runs lie.
    """

    def __init__(
        self,
        build: Callable[[Any], Experiment],
        config: Any,
        folder: Path,
        lanes: Literal["auto", "map", "vmap"],
        script: Path | None,
        options: Mapping[str, Any],
    ):
        self.folder, self._build, self._config, self._lanes = folder, build, config, lanes
        self._script, self._options = script, options
        rule = built(build, config).select
        if rule is None:
            raise UserError(
                "objective-without-select",
                "an objective scores by the experiment's select, which is none: give select='validation/loss'",
            )
        self._rule, self._sign = rule, -1.0 if rule.startswith("-") else 1.0
        self._known: dict[str, tuple[Path, float]] = {}
        self._warned = False
        self._learn(folder)

    def __call__(self, **values: Any) -> float:
        """The score of a run with these values of the config: larger is better.

        It is the selected value, its sign turned where lower is better; ``-inf`` where the loss became NaN or
        infinite. A run of these values that is there is not trained again, or goes on.
        """
        return self.batch([values])[0]

    def batch(self, many: Sequence[Mapping[str, Any]]) -> list[float]:
        """The scores of several runs, in order; those of one structure are lanes of one compiled program."""
        listed = isinstance(many, Sequence)
        if not listed or not all(isinstance(own, Mapping) for own in many):
            raise UserError(
                "batch-of-values", "batch takes a list of dicts of values: give [values]"
            )
        chosen = [self._values(values) for values in many]
        keys = [self._key(own) for own in chosen]
        new = {k: own for k, own in zip(keys, chosen, strict=True) if k not in self._known}
        if len(new) == 1:
            self._train(next(iter(new.items())))
        elif new:
            self._sweep(new)
        return [self._known[key][1] for key in keys]

    def run(self, **values: Any) -> Path:
        """The folder of the run with these values, for :func:`dl.open_run`; it is trained where there is none."""
        self(**values)
        return self._known[self._key(self._values(values))][0]

    def _values(self, values: Mapping[str, Any]) -> Overrides:
        hints = typing.get_type_hints(type(self._config))
        known, found = {f.name for f in dataclasses.fields(self._config)}, {}
        for name, value in values.items():
            if name not in known:
                raise unknown(f"field of {type(self._config).__name__}", name, known)
            found[name] = typed(name, hints[name], unboxed(value))
        return found

    def _key(self, own: Overrides) -> str:
        config = dataclasses.replace(self._config, **own)
        return _key(to_json(dataclasses.asdict(config)))

    def _train(self, new: tuple[str, Overrides]) -> None:
        key, own = new
        told = re.sub(r"[^\w.=+-]+", "_", "-".join(words(own)) or "default")[:100]
        name = f"{told}-{_digest(key)}"
        config = dataclasses.replace(self._config, **own)
        more: dict[str, Any] = {
            "script": self._script,
            "runs": self.folder,
            "name": name,
            "resume": True,
        }
        try:
            done = train(self._build, config, **more, **self._options)
        except UserError as error:
            if error.code != "loss-not-finite":
                raise
            self._known[key] = (self.folder / name, -math.inf)
            return
        if not done.folder.finished():
            raise KeyboardInterrupt(signal.Signals[done.ended])
        self._learn(done.folder.path)

    def _sweep(self, new: Mapping[str, Overrides]) -> None:
        name = f"batch-{_digest(*new)}"
        options = chosen_options(
            {"runs": self.folder, "name": name, "resume": True, **self._options}
        )
        wish, overrides = Sweep(lanes=self._lanes), list(new.values())
        done = carry_out(self._build, self._config, wish, overrides, options, self._script)
        if done.ended != "done":
            raise KeyboardInterrupt(signal.Signals[done.ended])
        self._learn(done.folder)

    def _learn(self, folder: Path) -> None:
        """Take the scores of the runs that have ended there."""
        place = store.opened(folder, FILES)
        for path in runs_within(place) if place.is_dir() else ():
            try:
                stored, lock = (
                    read_object(path / "config.json"),
                    read_object(path / "run.lock.json"),
                )
                result, failed = read_result(path), read_object(path / "failed.json")
            except UserError:  # a damaged one is run again
                continue
            lost = (
                result.get("ended") == "non-finite"
                or (failed or {}).get("code") == "loss-not-finite"
            )
            if not stored or not (result or lost):
                continue
            chosen = result.get("selected", {})
            if chosen.get("rule") not in (None, self._rule):
                raise UserError(
                    "objective-of-another-metric",
                    f"{path} was selected by {chosen['rule']}, and this search scores by {self._rule}: choose "
                    "another name, or take that run away",
                )
            value = chosen.get("value")
            score = -math.inf if lost or value is None else self._sign * float(value)
            self._known[_key(stored.get("config"))] = (Path(store.url(path) or path), score)
            self._warn_of_other_code(path, lock or {})

    def _warn_of_other_code(self, path: Path, lock: Mapping[str, Any]) -> None:
        code = (lock.get("environment") or {}).get("code") or {}
        mine = script_digest(self._script) if self._script else {}
        if not self._warned and code.get("script", 0) != mine.get("script", 0):
            self._warned = True
            Console().warn(
                f"{path} was made by another script: its score is taken; else choose another name"
            )


def objective(
    build: Callable[[Any], Experiment],
    config: Any,
    *,
    name: str = "search",
    lanes: Literal["auto", "map", "vmap"] = "auto",
    script: str | Path | None = None,
    **options: Any,
) -> Objective:
    """Runs as a function of values of their config to a score, for whatever chooses the values.

    >>> score = dl.objective(build, Config())  # doctest: +SKIP
    >>> score(learning_rate=1e-3), score.batch([{"width": 32}, {"width": 64}])  # doctest: +SKIP

    Each run lies in a folder of its own in ``runs/NAME``. Called again with equal values, also in another
    process, it is not trained again; one that was stopped goes on.

    Args:
      build, config: as for a run; values that are not given are the config's.
      name: of the folder of these runs.
      lanes: how a batch is computed (see :class:`~dl.sweeps.groups.Sweep`).
      script: the experiment's script, for the lock and for replay; found by itself if left out.
      **options: fields of :class:`~dl.runs.options.Options`, such as ``eval_every=100``.

    Raises:
      UserError: the experiment selects by no metric, the folder is a run, or its runs go by another metric.
    """
    leave_if_loading()
    if "resume" in options:
        raise UserError("option-misplaced", "an objective goes on by itself: leave resume out")
    kept = {"progress": False, **options}
    chosen = chosen_options(kept)
    folder = chosen.runs / name
    kept.pop("runs", None)
    if RunFolder(store.opened(folder, FILES), writes=False).exists():
        raise UserError(
            "name-taken",
            f"{folder} is a run, and a search needs a folder for its runs: choose another name",
        )
    with chosen.computing():
        chosen.prepare()
        return Objective(build, config, folder, lanes, chosen_script(script, config, build), kept)


def _key(config: Any) -> str:
    return json.dumps(config, sort_keys=True)


def _digest(*keys: str) -> str:
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:8]
