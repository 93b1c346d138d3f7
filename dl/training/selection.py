"""Which evaluation is the best, and when to stop waiting for a better one: pure bookkeeping."""

import dataclasses
import math

from dl.core.errors import unknown


@dataclasses.dataclass(frozen=True)
class Selection:
    """The best value of ``rule`` so far; ``rule`` starts with '-' where lower is better.

    Attributes:
      best, step: the best value and its step; None before the first evaluation.
      waited: evaluations since.
    """

    rule: str | None
    best: float | None = None
    step: int | None = None
    waited: int = 0

    def update(self, step: int, metrics: dict[str, float]) -> "Selection":
        """The selection after one more evaluation; the first of equals stays the best."""
        if self.rule is None:
            return self
        name = self.rule.removeprefix("-")
        if name not in metrics:
            raise unknown("metric to select by,", name, metrics)
        value = float(metrics[name])
        sign = -1.0 if self.rule.startswith("-") else 1.0
        better = self.best is None or sign * value > sign * self.best
        if better and math.isfinite(value):
            return dataclasses.replace(self, best=value, step=step, waited=0)
        return dataclasses.replace(self, waited=self.waited + 1)

    def exhausted(self, patience: int | None) -> bool:
        return patience is not None and self.waited >= patience
