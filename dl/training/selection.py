"""Which evaluation is the best, and when to stop waiting for a better one: pure bookkeeping."""

import dataclasses
import math

from dl.core.errors import unknown


@dataclasses.dataclass(frozen=True)
class Selection:
    """The best value of ``rule`` so far; ``rule`` starts with '-' where lower is better.

    A value that is NaN (a score of nothing) or infinite is never the best, and waits like a worse one.

    Attributes:
      best, step: the best value and its step; None before the first finite one.
      waited: evaluations since a strictly better one.
    """

    rule: str | None
    best: float | None = None
    step: int | None = None
    waited: int = 0

    def update(self, step: int, metrics: dict[str, float]) -> "Selection":
        """The selection after one more evaluation.

        Of equals the last is taken, for on a small set accuracies tie long before training is over; but
        only a better one ends the waiting.
        """
        if self.rule is None:
            return self
        name = self.rule.removeprefix("-")
        if name not in metrics:
            raise unknown("metric to select by,", name, metrics)
        value = float(metrics[name])
        sign = -1.0 if self.rule.startswith("-") else 1.0
        gain = math.inf if self.best is None else sign * (value - self.best)
        waited = 0 if gain > 0 and math.isfinite(value) else self.waited + 1
        if gain >= 0 and math.isfinite(value):
            return dataclasses.replace(self, best=value, step=step, waited=waited)
        return dataclasses.replace(self, waited=waited)

    def nothing(self) -> str | None:
        """What to say at the end where no evaluation could be selected; None where one was."""
        if self.rule is None or self.best is not None:
            return None
        return (
            f"{self.rule.removeprefix('-')} was nan or infinite at every evaluation, so the last state is "
            "kept: select by another metric, or evaluate on a set that has what this one scores"
        )

    def exhausted(self, patience: int | None) -> bool:
        return patience is not None and self.waited >= patience
