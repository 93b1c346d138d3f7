"""A network trained on the way to something else, such as the judge of a generator's pictures."""

import dataclasses
import hashlib
from importlib import metadata

import jax
from flax import serialization
from jax.typing import ArrayLike

from dl.core.errors import NonFiniteError, bounded
from dl.core.experiment import Batches, Experiment
from dl.core.lanes import step_of
from dl.core.recipe import Recipe
from dl.core.state import digest, init_state
from dl.core.step import scan_steps, zero_metrics
from dl.core.task import Batch, Variables
from dl.data.batches import train_batches
from dl.data.readers.files import write_whole
from dl.data.splits import Columns, Splits, shuffled
from dl.models.cnn import CNN
from dl.models.layers import Dropout
from dl.platform import cache_folder
from dl.scores.frechet import class_coverage, frechet_distance
from dl.tasks.classification import classification, unit_range
from dl.training.prediction import Predictor


def train_cached(experiment: Experiment) -> Variables:
    """The variables after the last of ``experiment.steps``, trained without a run folder.

    They are kept in the user's cache under a digest of all they depend on: the program (with every
    hyper-parameter and the seed inside), the data and the compiler. So the second call, in whichever
    process, only reads. The data must live on the device; nothing is evaluated and nothing selected.

    Raises:
      NonFiniteError: the loss was not finite.
    """
    step = step_of(experiment)

    def fit(data: Batches) -> tuple[Variables, jax.Array]:
        state = init_state(
            experiment.task,
            experiment.optimizer,
            data[0],
            experiment.seed,
            experiment.ema is not None,
        )
        totals = zero_metrics(lambda *args: step(*args)[1], state, data[0])
        state, _, finite = scan_steps(step)(state, totals, data, experiment.steps)
        return state.eval_variables, finite

    lowered = jax.jit(fit).lower(experiment.data)
    hasher = hashlib.sha256(lowered.as_text().encode())
    device = jax.devices()[0]
    for part in (experiment.data.digest(), metadata.version("jaxlib"), device.device_kind):
        hasher.update(part.encode())
    path = cache_folder() / "fitted" / f"{hasher.hexdigest()}.msgpack"
    if path.is_file():
        try:
            return serialization.from_bytes(
                jax.eval_shape(fit, experiment.data)[0], path.read_bytes()
            )
        except ValueError:  # damaged or cut off: it can be made again
            pass
    variables, finite = lowered.compile()(experiment.data)
    if not finite:
        raise NonFiniteError(
            "loss-not-finite", "the loss became NaN or infinite: lower the learning rate"
        )
    variables = jax.device_get(variables)
    write_whole(path, lambda file: file.write(serialization.to_bytes(variables)))
    return variables


def judge(columns: Columns, widths: tuple[int, ...], epochs: int) -> Predictor:
    """A :func:`cached_classifier` that looks at generated pictures: those in -1..1 to what its last layer
    reads, ``[rows, widths[-1]]``, and their classes, ``[rows]``."""
    model, variables = cached_classifier(columns, widths, epochs)

    def look(variables: Variables, columns: Batch) -> tuple[jax.Array, jax.Array]:
        pooled = lambda module, _: isinstance(module, Dropout)  # noqa: E731 (before the last layer)
        logits, seen = model.apply(variables, columns["image"], capture_intermediates=pooled)
        return jax.tree.leaves(seen)[0], logits.argmax(-1)

    task = dataclasses.replace(classification(model), predict=look)
    return Predictor(task, variables, batch_size=500)


class FrechetJudge:
    """What generated pictures are worth beside a data set's own, by the features of a :func:`judge`.

    Args:
      splits: labelled pictures uint8; the judge learns from the training rows, for ``epochs`` passes.
      samples: pictures of a part that are compared, drawn at random, or as many as it has.
    """

    def __init__(
        self, splits: Splits, samples: int, epochs: int, widths: tuple[int, ...] = (16, 32, 64)
    ):
        bounded("samples", samples, at_least=1, whole=True)
        self._judge, self._classes = judge(splits.train, widths, epochs), len(splits.info.classes)
        self._real = {}
        for name, part in splits.parts.items():
            rows = shuffled(len(part["image"]), 0)[:samples]
            self._real[name] = self._judge(unit_range(part["image"][rows]))[0]
        self.digest = digest(self._judge.variables)

    def rows(self, name: str) -> int:
        """Pictures of that part which are compared, and so how many to generate."""
        return len(self._real[name])

    def scores(self, name: str, fake: ArrayLike) -> dict[str, float]:
        """Of ``fake [rows, height, width, channels]`` in -1..1, beside part ``name``: ``frechet``;
        ``frechet_floor``, that of as many real training pictures; and how they cover the classes."""
        truth = self._real[name]
        features, classes = self._judge(fake)
        return {
            "frechet": frechet_distance(features, truth),
            "frechet_floor": frechet_distance(self._real["train"][: len(truth)], truth),
            **class_coverage(classes, self._classes),
        }


def cached_classifier(
    columns: Columns, widths: tuple[int, ...], epochs: int
) -> tuple[CNN, Variables]:
    """A small network that learned to classify labelled pictures, for its features of others."""
    data = train_batches(columns, 128)
    model = CNN(int(columns["label"].max()) + 1, widths)
    recipe = Recipe(learning_rate=3e-3, warmup_percent=10, clip=None)
    return model, train_cached(recipe.experiment(classification(model), data, epochs=epochs))
