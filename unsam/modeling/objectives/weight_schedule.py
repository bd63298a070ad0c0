"""How the weight of a loss changes over the training."""

from __future__ import annotations

import math
from dataclasses import dataclass

KINDS = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class WeightSchedule:
    """The weight of a loss as a function of progress, with no state of its own.

    Attributes:
        weight: the full weight.
        kind: "constant"; "linear", a ramp from zero at `start` to the full weight at `end`; or
            "cosine", a fade from the full weight at `start` to zero at `end` by half a cosine.
        start: share of the training, in [0, 1].
        end: share of the training, in [`start`, 1].

    Raises:
        ValueError: another kind, or shares out of order.
    """

    weight: float
    kind: str = "constant"
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"SCHEDULE is one of {', '.join(KINDS)}, got '{self.kind}'")
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise ValueError(
                f"START and END are in order and in [0, 1], got {self.start} and {self.end}"
            )

    def __call__(self, progress: float) -> float:
        """Return the weight at a share of the training."""
        if self.kind == "constant":
            return self.weight
        if self.end > self.start:
            done = min(max((progress - self.start) / (self.end - self.start), 0.0), 1.0)
        else:
            done = float(progress >= self.end)
        if self.kind == "linear":
            return self.weight * done
        return self.weight * 0.5 * (1.0 + math.cos(math.pi * done))
