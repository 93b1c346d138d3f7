"""Which evaluation is the best, and when to stop waiting for a better one: pure bookkeeping."""

import dataclasses
import math

from dl.core.errors import unknown


@dataclasses.dataclass(frozen=True)
class Selection:
    """The best value of ``rule`` so far; ``rule`` starts with '-' where lower is better.

    Attributes:
      best, step: the best value and its step; None before the first evaluation.
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

    def exhausted(self, patience: int | None) -> bool:
        return patience is not None and self.waited >= patience
