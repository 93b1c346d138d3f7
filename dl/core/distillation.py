"""Students that learn from what a trained model says."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dl.core.contract import kind, shape
from dl.core.errors import UserError, bounded
from dl.core.metrics import Mean, Metrics, mean
from dl.core.task import Batch, Task, Variables
from dl.core.transforms import at_run_time


class Taught(NamedTuple):
    """What student and teacher say of a batch."""

    own: Any
    teacher: Any


def distill(
    task: Task,
    teacher: Any,
    temperature: float | jax.Array = 2.0,
    weight: float | jax.Array = 0.5,
) -> Task:
    """``task`` whose logits learn from a teacher's as well as from the labels (Hinton et al. 2015, "Distilling the
    knowledge in a neural network").

    Training descends ``(1 - weight) * loss + weight * temperature**2 * KL(teacher || student)``, of the
    probabilities at that temperature; the metric ``distillation`` is the divergence in nats, the mean over a row's
    positions. The teacher sees the very batch, augmented as it is, and no randomness. Evaluation and predictions
    are the student's. The teacher's variables lie in the collection ``teacher``, so a run needs nothing else to
    be resumed.

    Args:
      teacher: a run or a predictor, whose task's outputs are logits ``[batch, ..., classes]`` as the student's.
      temperature, weight: may be traced.

    Raises:
      UserError: the teacher is neither; its outputs are of another shape (raised in training); the task has a
        collection ``teacher`` already (raised by ``init``).
    """
    bounded("temperature", temperature, above=0)
    bounded("weight", weight, at_least=0, at_most=1)
    if task.members is not None:
        raise UserError(
            "ensemble-last", "give the task its teacher first, and make it an ensemble last"
        )
    teacher = getattr(teacher, "predictor", teacher)
    if not isinstance(getattr(teacher, "task", None), Task):
        raise UserError(
            "not-a-teacher",
            f"a teacher is a run or a dl.Predictor, not {kind(teacher)}: open a run's folder by dl.open_run",
        )

    def init(key: jax.Array, batch: Batch) -> Variables:
        variables = task.init(key, batch)
        if "teacher" in variables:
            raise UserError(
                "collection-taken",
                "the task has variables in a collection 'teacher' of its own, where distill keeps its teacher's: "
                "call it otherwise, or give one teacher alone",
            )
        return {**variables, "teacher": at_run_time(teacher.variables)}

    def student(variables: Variables) -> Variables:
        return {name: value for name, value in variables.items() if name != "teacher"}

    def apply(variables: Variables, batch: Batch, key: jax.Array | None) -> tuple[Any, Variables]:
        outputs, updates = task.apply(student(variables), batch, key)
        if key is None:
            return outputs, updates
        said, _ = teacher.task.apply(variables["teacher"], batch, None)
        if shape(said) != shape(outputs).replace("bfloat16", "float32"):
            raise UserError(
                "teacher-differs",
                f"the teacher says {shape(said)} and the student {shape(outputs)}: both must say logits of the "
                "same classes",
            )
        return Taught(outputs, said), {**updates, "teacher": variables["teacher"]}

    def score(outputs: Any, batch: Batch, train: bool) -> Metrics:
        if not isinstance(outputs, Taught):
            return task.score(outputs, batch, train)
        metrics = task.score(outputs.own, batch, train)
        own, said = (
            jax.nn.log_softmax(logits.astype(jnp.float32) / temperature) for logits in outputs
        )
        divergence = (jnp.exp(said) * (said - own)).sum(-1)
        rows = divergence.reshape(len(divergence), -1).mean(1)
        soft, hard = mean(rows, batch.get("mask")), metrics["loss"]
        softened = temperature**2 * soft.total / jnp.maximum(soft.weight, 1e-8) * hard.weight
        loss = Mean((1 - weight) * hard.total + weight * softened, hard.weight)
        return {**metrics, "loss": loss, "distillation": soft}

    def check(variables: Variables, batch: Batch, columns: dict[str, Any]) -> None:
        assert task.check is not None
        task.check(student(variables), batch, columns)

    return dataclasses.replace(
        task,
        init=init,
        apply=apply,
        score=score,
        predict=lambda variables, columns: task.predict(student(variables), columns),
        check=task.check and check,
        given=(*task.given, "teacher"),
    )
