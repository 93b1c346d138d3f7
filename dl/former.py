"""Modules by the names that they had in earlier releases, so that a script written for one still imports what it
needs: ``from dl.data.streams import image_folder``. What is there by its own name is never looked up here."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Where what was in a module lies now, the likeliest first.
MOVED: Mapping[str, tuple[str, ...]] = {
    "dl.data.annotated": ("dl.data.sets.annotated",),
    "dl.data.audio": ("dl.data.sets.recordings",),
    "dl.data.augment": ("dl.data.transforms.images",),
    "dl.data.buckets": ("dl.data.batches.buckets",),
    "dl.data.catalogue": ("dl.data.sets.catalogue",),
    "dl.data.images": ("dl.data.sets.images", "dl.data.readers.pictures"),
    "dl.data.joining": ("dl.data.transforms.recordings",),
    "dl.data.joint": ("dl.data.transforms.images_with_labels",),
    "dl.data.named_tables": ("dl.data.sets.tables",),
    "dl.data.series": ("dl.data.sets.series", "dl.data.readers.series_tables"),
    "dl.data.sources": ("dl.data.readers.files",),
    "dl.data.streams": (
        *("dl.data.batches.streams", "dl.data.batches.sources"),
        "dl.data.readers.picture_folders",
    ),
    "dl.data.text": ("dl.data.tokenizers",),
    "dl.data.tfds": ("dl.data.sets.tfds",),
    "dl.data.tokens": ("dl.data.batches.tokens",),
    "dl.data.windows": ("dl.data.batches.windows",),
    "dl.models.audio": ("dl.models.spectrograms",),
    "dl.report.codes": ("dl.figures.codes",),
    "dl.report.gradients": ("dl.figures.gradients",),
    "dl.report.pictures": ("dl.figures.pictures",),
    "dl.report.plots": ("dl.figures.curves",),
    "dl.report.records": ("dl.runs.records", "dl.runs.readers"),
    "dl.tasks.baselines": ("dl.baselines.linear_forecast",),
    "dl.tasks.bleu": ("dl.scores.bleu",),
    "dl.tasks.boxes": ("dl.scores.boxes",),
    "dl.tasks.detection_scores": ("dl.scores.detection",),
    "dl.tasks.frechet": ("dl.scores.frechet",),
    "dl.tasks.sampling": ("dl.models.generation",),
    "dl.tasks.trees": ("dl.baselines.trees",),
    "dl.training.compare": ("dl.runs.compare",),
    "dl.training.folder": ("dl.runs.folder",),
    "dl.training.grid": ("dl.sweeps.search_space", "dl.sweeps.naming", "dl.training.halving"),
    "dl.training.lock": ("dl.runs.lock", "dl.runs.revisions"),
    "dl.training.options": ("dl.runs.options",),
    "dl.training.processes": ("dl.parallel.processes",),
    "dl.training.replay": ("dl.proofs.replay",),
    "dl.training.reproduce": ("dl.proofs.reproduce",),
    "dl.training.scripts": ("dl.runs.scripts",),
    "dl.training.sinks": ("dl.training.trackers",),
    "dl.training.sweep": ("dl.sweeps.sweep", "dl.sweeps.groups"),
    "dl.training.verify": ("dl.proofs.verify",),
}
# What left a module that is still there; and what has another name now.
LEFT: Mapping[str, tuple[str, ...]] = {
    "dl.core.task": ("dl.core.transforms", "dl.core.step"),
    "dl.tasks.forecasting": ("dl.scores.forecasting",),
    "dl.tasks.segmentation": ("dl.scores.segmentation", "dl.baselines.threshold"),
    "dl.tasks.tabular": ("dl.scores.tabular",),
    "dl.training.run": ("dl.training.train", "dl.training.reopening"),
}
RENAMED = {
    ("dl.training.grid", "plan"): "lane_overrides",
    ("dl.training.grid", "Field"): "SweptField",
}


def found(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a ``module``, by its former name or its own: what is in it no more, from where that
    is, with a DeprecationWarning."""

    def look(name: str) -> Any:
        for place in (
            () if name.startswith("_") else (*MOVED.get(module, ()), *LEFT.get(module, ()))
        ):
            now = RENAMED.get((module, name), name)
            own = importlib.import_module(place)
            if now in vars(own):
                told = f"{module}.{name} is {place}.{now} now"
                warnings.warn(told, DeprecationWarning, stacklevel=2)
                return vars(own)[now]
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return look


class Former(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of :data:`MOVED`, asked after all other finders."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module: types.ModuleType) -> None:
        module.__doc__ = f"What it held lies in {' and '.join(MOVED[module.__name__])} now."
        vars(module)["__getattr__"] = found(module.__name__)


sys.meta_path.append(Former())
