"""The optimizer and the learning-rate schedule, from the config or from plain arguments."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import nn

from unsam.errors import ConfigError

# Parameters of these names are embeddings or tokens even where no nn.Embedding holds them.
_EMBEDDING_WORDS = ("embed", "token")
_UNDECAYED_MODULES = (nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters of `model`, as ``SOLVER`` describes it.

    Raises:
        ConfigError: the model has no trainable parameter.
    """
    solver = cfg.SOLVER
    groups = parameter_groups(model, weight_decay=solver.WEIGHT_DECAY)
    if not groups:
        raise ConfigError(
            f"{cfg.MODEL.META_ARCHITECTURE}: no trainable parameter; it can only be evaluated "
            "(--eval-only)"
        )
    return torch.optim.AdamW(groups, lr=solver.BASE_LR, betas=tuple(solver.BETAS), eps=1e-8)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters in those with and those without weight decay.

    Scales, biases (one axis or none), embeddings and learnt tokens are not decayed: pulling them
    to zero does not make the function smoother. A shared parameter is listed once.

    Args:
        model: any module.
        weight_decay: decay of the matrices and filters.

    Returns:
        At most two AdamW parameter groups, in the order of ``model.named_parameters()``.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    undecayed = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _UNDECAYED_MODULES)
        for parameter in module.parameters(recurse=False)
    }
    for name, parameter in _trainable(model):
        last = name.rsplit(".", 1)[-1].lower()
        is_embedding = any(word in last for word in _EMBEDDING_WORDS)
        is_free = parameter.ndim <= 1 or is_embedding or id(parameter) in undecayed
        (free if is_free else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class Schedule:
    """Linear warm-up, then half a cosine; a function of where training stands and nothing else.

    As it carries no state of its own, a resumed run needs only the iteration and follows the new
    config when a recipe was changed on purpose.

    Attributes:
        warmup_iters: iterations over which the rate climbs from ``1 / warmup_iters`` to full.
        final_ratio: the rate at the end, as a share of the base rate.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, warmup_iters: int = 0, final_ratio: float = 0.0
    ) -> None:
        self._optimizer = optimizer
        self._base = [float(group["lr"]) for group in optimizer.param_groups]
        self.warmup_iters = warmup_iters
        self.final_ratio = final_ratio

    @classmethod
    def from_config(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Schedule:
        """Build from ``SOLVER.WARMUP_ITERS`` and ``SOLVER.FINAL_LR_RATIO``."""
        return cls(
            optimizer,
            warmup_iters=cfg.SOLVER.WARMUP_ITERS,
            final_ratio=cfg.SOLVER.FINAL_LR_RATIO,
        )

    def factor(self, iteration: int, progress: float) -> float:
        """Return the multiple of the base rate for the step after `iteration` finished steps.

        Args:
            iteration: finished steps.
            progress: share of the training that is done, in [0, 1].
        """
        warmup = min(1.0, (iteration + 1) / self.warmup_iters) if self.warmup_iters else 1.0
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
        return warmup * (self.final_ratio + (1.0 - self.final_ratio) * cosine)

    def apply(self, iteration: int, progress: float) -> float:
        """Set the rate of every parameter group for the coming step; return the first one's."""
        factor = self.factor(iteration, progress)
        for group, base in zip(self._optimizer.param_groups, self._base, strict=True):
            group["lr"] = base * factor
        return self._base[0] * factor


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)
