"""The learning rate over the run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from fvcore.common.config import CfgNode

from unsam.errors import ConfigError

KINDS = ("cosine", "step")


class Schedule:
    """Linear warm-up, then half a cosine or steps; a function of where training stands alone.

    As it carries no state of its own, a resumed run needs only the iteration and follows the new
    config when a recipe was changed on purpose.

    Args:
        optimizer: the rates that its groups have now are their full rates.
        kind: "cosine" or "step".
        warmup_iters: iterations over which the rate climbs from ``1 / warmup_iters`` to full.
        final_ratio: of "cosine": the rate at the end, as a share of the full one.
        steps: of "step": shares of the run, ascending, at each of which ...
        gamma: ... the rate is multiplied by this.

    Raises:
        ConfigError: another kind, or steps that are not ascending shares of the run.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        kind: str = "cosine",
        warmup_iters: int = 0,
        final_ratio: float = 0.0,
        steps: Sequence[float] = (),
        gamma: float = 0.1,
    ) -> None:
        if kind not in KINDS:
            raise ConfigError(f"SOLVER.SCHEDULE is one of {', '.join(KINDS)}, got '{kind}'")
        if list(steps) != sorted(steps) or not all(0.0 <= step <= 1.0 for step in steps):
            raise ConfigError(
                f"SOLVER.STEPS are ascending shares of the run, in [0, 1], got {list(steps)}"
            )
        self._optimizer = optimizer
        self._base = [float(group["lr"]) for group in optimizer.param_groups]
        self._kind = kind
        self._warmup_iters = warmup_iters
        self._final_ratio = final_ratio
        self._steps = tuple(steps)
        self._gamma = gamma

    @classmethod
    def from_config(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Schedule:
        """Build from ``SOLVER``."""
        return cls(
            optimizer,
            kind=cfg.SOLVER.SCHEDULE,
            warmup_iters=cfg.SOLVER.WARMUP_ITERS,
            final_ratio=cfg.SOLVER.FINAL_LR_RATIO,
            steps=cfg.SOLVER.STEPS,
            gamma=cfg.SOLVER.GAMMA,
        )

    def factor(self, iteration: int, progress: float) -> float:
        """Return the multiple of the full rate for the step after `iteration` finished steps.

        Args:
            iteration: finished steps.
            progress: share of the training that is done, in [0, 1].
        """
        warmup = min(1.0, (iteration + 1) / self._warmup_iters) if self._warmup_iters else 1.0
        if self._kind == "step":
            return warmup * self._gamma ** sum(progress >= step for step in self._steps)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
        return warmup * (self._final_ratio + (1.0 - self._final_ratio) * cosine)

    def apply(self, iteration: int, progress: float) -> float:
        """Set the rate of every parameter group for the coming step.

        Returns:
            The highest of them.
        """
        factor = self.factor(iteration, progress)
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * factor
        return max(self._base) * factor
