"""What simple rivals of an experiment reach on its sets, kept beside its own figures."""

from collections.abc import Callable, Sequence

from dl.core.experiment import Experiment
from dl.parallel import processes
from dl.runs.folder import write_json
from dl.training.console import Console, format_metrics
from dl.training.lane import Lane


def fit_baselines(
    own: Callable[[int], Experiment], lanes: Sequence[Lane], console: Console
) -> None:
    """Leave every lane what simple rivals of its ``own`` experiment reach, once for each of these; a rival that
    fails stops nothing."""
    new = [(own(n), x.folder) for n, x in enumerate(lanes) if not x.folder.baselines.exists()]
    new = [(experiment, folder) for experiment, folder in new if experiment.baselines]
    if not new or not processes.first():
        return
    console.say("baselines: computed while the step compiles")
    known: dict[int, dict[str, dict[str, float]]] = {}
    for experiment, folder in new:
        fit, found = experiment.baselines, known.get(id(experiment))
        if found is None and fit is not None:
            try:
                found = {name: dict(metrics) for name, metrics in fit().items()}
            except Exception as error:
                console.warn(f"no baseline to compare with: {type(error).__name__}: {error}")
                return
            known[id(experiment)] = found
            for name, metrics in found.items():
                console.say(f"baseline     {format_metrics(metrics)}  ({name})")
        write_json(folder.baselines, found)
