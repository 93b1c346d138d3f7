"""How an experiment is trained: the fields that every script's configuration has in common."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from dl.core.errors import UserError, bounded
from dl.core.experiment import Batches, Experiment
from dl.core.groups import layerwise, told
from dl.core.optim import (
    OptimizerName,
    ScheduleName,
    optimizer,
    schedule,
    stacked_axes,
    usual_rate,
)
from dl.core.state import TrainState
from dl.core.task import Task, Variables
from dl.core.transforms import mixed_precision


@dataclasses.dataclass(frozen=True)
class Members:
    """The field of a script's ``Config`` that says how many networks answer together (see :func:`dl.ensemble`)."""

    members: int = 1
    """networks that differ by their seeds, whose outputs are averaged"""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Base of a script's ``Config``, which sets other defaults and adds fields of its own.

    ``config.experiment(task, data, ...)`` is then the :class:`~dl.core.experiment.Experiment` that these
    fields describe.
    """

    seed: int = 0
    """of initialisation, data order, dropout and augmentation"""
    batch_size: int = 64
    optimizer: OptimizerName = "adamw"
    learning_rate: float | None = None
    """the highest; None takes a usual one of the optimizer"""
    schedule: ScheduleName = "cosine"
    warmup_percent: int = 5
    """of the steps, over which the learning rate rises from 0"""
    final_rate: float = 0.0
    """what is left of the learning rate at the end, as a share of it"""
    weight_decay: float = 0.0
    b2: float = 0.999
    """decay of the second moment, for the optimisers that have one"""
    moment: Literal["float32", "bfloat16"] = "float32"
    """in which adam, adamw and lion keep the first moment; bfloat16 takes a quarter off Adam's memory"""
    clip: float | None = 1.0
    """largest global norm of the gradient; None for no limit"""
    micro_batches: int = 1
    """pieces that each batch is computed in, one after the other, to save memory"""
    ema: float | None = None
    """decay of the averaged parameters that are evaluated; None for no averaging"""
    patience: int | None = None
    """stop after this many evaluations without a better one"""
    bfloat16: bool = False
    """compute in bfloat16, for GPU and TPU"""
    start: str | None = None
    """folder of a run, or of weights in Hugging Face's layout, to begin with: what agrees in path and shape"""
    freeze: tuple[str, ...] = ()
    """patterns, such as ^encoder/, searched for in the paths of parameters, which then stay as they are"""
    layer_decay: float | None = None
    """share of the learning rate that each layer gets of the one above it, such as 0.75; None for all the same"""

    def experiment(
        self,
        task: Task,
        data: Batches,
        *,
        steps: int | None = None,
        epochs: float | None = None,
        usual_epochs: float | None = None,
        least_steps: int = 1000,
        **others: Any,
    ) -> Experiment:
        """The experiment of ``task`` on ``data``, trained by this recipe.

        Args:
          steps, epochs: the run's length, one of the two, by default the config's own field ``steps`` or,
            without one, ``epochs``, which are passes over ``data``.
          usual_epochs, least_steps: the length where the config's fields are None: that many epochs, and
            more of a small set, until it is trained for ``least_steps``.
          **others: the other fields of :class:`~dl.core.experiment.Experiment`; an ``optimizer`` given here takes
            the place of the one that the fields describe.

        Raises:
          UserError: both lengths are given, or neither.
        """
        if steps is epochs is None:
            steps = getattr(self, "steps", None)
            epochs = getattr(self, "epochs", None) if steps is None else None
        if steps is epochs is None and usual_epochs is not None:
            steps = max(int(usual_epochs * data.size / data.batch_size), least_steps)
        if (steps is None) == (epochs is None):
            raise UserError("steps-or-epochs", "give the experiment either steps or epochs")
        bounded("--steps", steps, at_least=1, whole=True)
        bounded("--epochs", epochs, above=0)
        bounded("--warmup-percent", self.warmup_percent, at_least=0, at_most=100, whole=True)
        bounded("--final-rate", self.final_rate, at_least=0, at_most=1)
        if epochs is not None:
            steps = int(epochs * data.size / data.batch_size)
        steps = max(1, steps or 0)
        warmup = steps * self.warmup_percent // 100
        peak = usual_rate(self.optimizer) if self.learning_rate is None else self.learning_rate
        rate = schedule(self.schedule, peak, steps, warmup=warmup, end=self.final_rate)
        more: Any = others.get("scalars") or (lambda state: {})

        def scalars(state: TrainState) -> dict[str, Any]:
            """The rate of the last step, and the experiment's own."""
            return {"learning_rate": rate(jnp.maximum(state.step - 1, 0)), **more(state)}

        frozen = (self.freeze,) if isinstance(self.freeze, str) else self.freeze
        chosen = others.pop("optimizer", None)
        if chosen is not None and (self.freeze or self.layer_decay is not None):
            raise UserError(
                "options-exclusive",
                "--freeze and --layer-decay are of the recipe's optimizer, and the experiment is given one of its "
                "own: leave them out, or give it groups",
            )
        if chosen is None:
            chosen = optimizer(
                self.optimizer,
                rate,
                weight_decay=self.weight_decay,
                b2=self.b2,
                clip=self.clip,
                moment=self.moment,
                groups={pattern: {"freeze": True} for pattern in frozen},
            )
            others["scalars"] = scalars
        if self.layer_decay is not None:
            chosen = optax.chain(chosen, layerwise(self.layer_decay, stacked_axes))

        def notes(variables: Variables) -> list[str]:
            params = variables["params"]
            if task.members is not None:  # each is trained as it would be alone
                params = jax.eval_shape(lambda tree: jax.tree.map(lambda x: x[0], tree), params)
            return told(params, stacked_axes(params), frozen, self.layer_decay)

        return Experiment(
            task=mixed_precision(task) if self.bfloat16 else task,
            data=data,
            optimizer=chosen,
            steps=steps,
            seed=self.seed,
            micro_batches=self.micro_batches,
            ema=self.ema,
            patience=self.patience,
            start=self.start,
            notes=notes,
            **others,
        )
