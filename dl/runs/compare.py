"""Two runs side by side: the first step, and there the first leaf or scalar, that differs."""

from typing import Any

from dl.core.digests import kind_of
from dl.runs.folder import RunFolder, read_json
from dl.runs.readers import numbers, origin
from dl.runs.records import RunRecord, flat, show

LOGGED = ("train", "eval", "test")


def apart(a: RunRecord, b: RunRecord) -> list[tuple[str, str, str]]:
    """What two runs differ in, each as (name, of the one, of the other): fields of the config, versions, devices,
    data and code, and what they reached; times are left out."""

    def told(run: RunRecord) -> dict[str, Any]:
        result = {name: run.result.get(name) for name in ("ended", "digest")}
        chosen = {
            f"selected.{name}": value for name, value in run.result.get("selected", {}).items()
        }
        parts = {
            "config": {**run.config, "steps": run.steps},
            "": run.environment,
            "result": {**result, **chosen, **numbers(run.result.get("metrics", {}))},
        }
        found = {"script": run.script and run.script.name}
        for part, values in parts.items():
            found |= flat(values, f"{part}." if part else "")
        return found

    def short(own: dict[str, Any], name: str) -> str:
        text = show(own[name]) if name in own else ""
        return f"{text[:12]}…" if len(text) == 64 else text

    mine, theirs = told(a), told(b)
    return [
        (name, short(mine, name), short(theirs, name))
        for name in dict.fromkeys([*mine, *theirs])
        if mine.get(name) != theirs.get(name)
    ]


def logged(folder: RunFolder) -> dict[tuple[int, str], dict[str, Any]]:
    """Every logged scalar by (step, event)."""
    return {
        (record["step"], record["event"]): record["metrics"]
        for record in folder.records()
        if record["event"] in LOGGED
    }


def begun_at(folder: RunFolder) -> int:
    """The step that a run began at: 0, or that of the run it was forked from."""
    locked = read_json(folder.lock) if folder.lock.exists() else {}
    return (origin(folder.lock, locked, "ancestor") or {}).get("step") or 0


def leaves(folder: RunFolder) -> dict[int, dict[str, str]]:
    """The digest of every leaf of the state, by the step of its checkpoint."""
    return {
        record["step"]: {k: v for k, v in record["leaves"].items() if k.startswith("state/")}
        for record in folder.records(folder.digests)
    }


def first_difference(a: RunFolder, b: RunFolder) -> str | None:
    """Where two runs part, in words; None where every bit both recorded is the same.

    A run that a signal stopped has checkpoints the other lacks: states are compared at the steps
    that both have, scalars from where both begin, which a fork does at its ancestor's step.
    """
    found: list[tuple[int, str]] = []
    begun = max(begun_at(a), begun_at(b))
    mine, theirs = (
        {
            (step, event): x
            for (step, event), x in logged(folder).items()
            if not begun or step > begun
        }
        for folder in (a, b)
    )
    for step, event in sorted(mine.keys() | theirs.keys()):
        x, y = mine.get((step, event)), theirs.get((step, event))
        if x is None or y is None:
            absent = a.path if x is None else b.path
            found.append((step, f"step {step}: {absent} has no {event} metrics"))
            break
        odd = sorted(name for name in x.keys() | y.keys() if x.get(name) != y.get(name))
        if odd:
            values = f"{x.get(odd[0])} and {y.get(odd[0])}"
            found.append((step, f"step {step}: {odd[0]} is {values}"))
            break
    ours, others = leaves(a), leaves(b)
    shared = sorted(ours.keys() & others.keys())
    for step in shared:
        x, y = ours[step], others[step]
        kinds = {kind_of(value) for value in (*x.values(), *y.values())}
        if len(kinds) > 1:
            told = (
                f"step {step}: the states' digests are of two kinds, {' and '.join(sorted(kinds))}"
            )
            found.append((step, f"{told}, which cannot be compared"))
            break
        odd = sorted(name for name in x.keys() | y.keys() if x.get(name) != y.get(name))
        if odd:
            count = f"{len(odd)} of {len(x)} leaves differ, first {odd[0].removeprefix('state/')}"
            found.append((step, f"step {step}: {count}"))
            break
    if not shared:
        found.append((0, "the two runs share no checkpointed step"))
    return min(found)[1] if found else None
