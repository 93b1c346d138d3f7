"""What simple rivals of an experiment reach on its sets, kept beside its own figures."""

from collections.abc import Sequence

from dl.core.experiment import Experiment
from dl.parallel import processes
from dl.runs.folder import write_json
from dl.training.console import Console, format_metrics
from dl.training.lane import Lane


def fit_baselines(experiment: Experiment, lanes: Sequence[Lane], console: Console) -> None:
    """Leave every lane what simple rivals reach, once; a rival that fails stops nothing."""
    fit = experiment.baselines
    new = [lane.folder for lane in lanes if not lane.folder.baselines.exists()]
    if fit is None or not new or not processes.first():
        return
    console.say("baselines: computed while the step compiles")
    try:
        found = {name: dict(metrics) for name, metrics in fit().items()}
    except Exception as error:
        console.warn(f"no baseline to compare with: {type(error).__name__}: {error}")
        return
    for folder in new:
        write_json(folder.baselines, found)
    for name, metrics in found.items():
        console.say(f"baseline     {format_metrics(metrics)}  ({name})")
