"""The optimizer that a config describes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from fvcore.common.config import CfgNode
from torch import nn

from unsam.errors import ConfigError
from unsam.solver.parameter_groups import parameter_groups


def build_optimizer(
    cfg: CfgNode, model: nn.Module, encoder_distances: Mapping[str, int] | None = None
) -> torch.optim.AdamW:
    """Return AdamW over the trainable parameters of `model`, as ``SOLVER`` describes it.

    Args:
        cfg: the merged config.
        model: whose parameters learn.
        encoder_distances: for each parameter of the image encoder, by name, the layers between it
            and the encoder's end. Their rate is that of the others times
            ``BACKBONE_MULTIPLIER * LAYER_DECAY ** distance``.

    Raises:
        ConfigError: the model has no trainable parameter, or no image encoder to learn more slowly.
    """
    solver = cfg.SOLVER
    if not encoder_distances and (solver.BACKBONE_MULTIPLIER != 1 or solver.LAYER_DECAY != 1):
        raise ConfigError(
            f"{cfg.MODEL.META_ARCHITECTURE} has no image encoder with a rate of its own; leave "
            "SOLVER.BACKBONE_MULTIPLIER and SOLVER.LAYER_DECAY at 1"
        )
    multipliers = {
        name: solver.BACKBONE_MULTIPLIER * solver.LAYER_DECAY**distance
        for name, distance in (encoder_distances or {}).items()
    }
    groups = parameter_groups(
        model, base_lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, multipliers=multipliers
    )
    if not groups:
        raise ConfigError(
            f"{cfg.MODEL.META_ARCHITECTURE}: no trainable parameter; it can only be evaluated "
            "(--eval-only)"
        )
    return torch.optim.AdamW(groups, lr=solver.BASE_LR, betas=tuple(solver.BETAS), eps=1e-8)
