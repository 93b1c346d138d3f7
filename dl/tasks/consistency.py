"""Rows without labels teach too: what a network is sure of in a picture must hold for a harder view of it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dl.core.errors import UserError, bounded
from dl.core.metrics import Mean, Metrics, mean
from dl.core.random import purpose_key
from dl.core.task import Batch, Task, Variables
from dl.tasks.contrastive import View

UNKNOWN = -1  # the label of a row without one


class Viewed(NamedTuple):
    """Logits ``[batch, classes]`` of the rows as they come, and of a harder view of each."""

    plain: jax.Array
    harder: jax.Array


def consistent(
    task: Task,
    view: View,
    *,
    threshold: float | jax.Array = 0.95,
    weight: float | jax.Array = 1 / 7,
) -> Task:
    """``task``, a classification, that learns from rows without labels as well (Sohn et al. 2020, "FixMatch").

    A row's label is its class, or -1 where it is unknown. A batch enters training twice: as it comes, which is
    to be augmented weakly, and by ``view``. Where the network gives a class of the first more than ``threshold``,
    the second is to have that class. Evaluation and predictions are the task's.

    Args:
      task: its outputs are logits ``[batch, classes]``, its labels a column ``label`` of classes ``[batch]``.
      view: ``(key, batch) -> batch``, the strong augmentation, such as
        :func:`dl.data.transforms.policies.rand_augment`.
      threshold: the least probability that counts as sure.
      weight: what a row that the network is sure of counts in the loss beside one with a label. The paper's
        batches hold seven times as many without labels, and both kinds count alike there.

    Metrics of training: those of the task, of labelled rows alone; ``loss``, what both parts add up to, a row;
    ``consistency``, the cross-entropy in nats of
    the harder views, 0 where the network is not sure; and ``sure``, the share of rows where it is.

    Raises:
      UserError: the task is an ensemble.
    """
    bounded("threshold", threshold, at_least=0, below=1)
    bounded("weight", weight, at_least=0)
    if task.members is not None:
        raise UserError(
            "ensemble-last", "make the task consistent first, and an ensemble of it last"
        )

    def apply(variables: Variables, batch: Batch, key: jax.Array | None) -> tuple[Any, Variables]:
        if key is None:
            return task.apply(variables, batch, key)
        harder = view(purpose_key(key, "view"), batch)
        both = jax.tree.map(lambda *rows: jnp.concatenate(rows), batch, harder)
        logits, updates = task.apply(variables, both, key)
        return Viewed(*jnp.split(logits, 2)), updates

    def score(outputs: Any, batch: Batch, train: bool) -> Metrics:
        label, mask = batch["label"], batch.get("mask")
        known = (label != UNKNOWN).astype(jnp.float32)
        known = known if mask is None else known * mask
        plain = outputs.plain if train else outputs
        metrics = task.score(plain, {**batch, "label": jnp.maximum(label, 0), "mask": known}, train)
        if not train:
            return metrics
        said = jax.lax.stop_gradient(jax.nn.softmax(plain.astype(jnp.float32), -1))
        sure = (said.max(-1) > threshold).astype(jnp.float32)
        guess = jax.nn.one_hot(said.argmax(-1), said.shape[-1])
        losses = optax.softmax_cross_entropy(outputs.harder.astype(jnp.float32), guess)
        agreed = mean(sure * losses, mask)
        # A sum over all rows, however few of them have labels: micro-batches then add up to their batch.
        loss = Mean(metrics["loss"].total + weight * agreed.total, agreed.weight)
        return {**metrics, "loss": loss, "consistency": agreed, "sure": mean(sure, mask)}

    def check(variables: Variables, batch: Batch, columns: dict[str, Any]) -> None:
        assert task.check is not None
        label = np.asarray(columns["label"])
        if label.size and label.min() < UNKNOWN:
            said = f"column 'label' holds {label.min()}: give class numbers, and -1 where there is none"
            raise UserError("class-out-of-range", said)
        task.check(variables, batch, {**columns, "label": np.maximum(label, 0)})

    return dataclasses.replace(task, apply=apply, score=score, check=task.check and check)
