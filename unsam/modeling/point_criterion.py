"""What the criteria that compare masks at points have in common."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from unsam.errors import ConfigError
from unsam.modeling.losses import bce_loss, dice_loss, uncertain_points


class PointCriterion(nn.Module):
    """Base of the criteria that match answers with masks and compare them at points.

    Args:
        mask_weight: weight of the binary cross entropy of the masks, in losses and matching.
        dice_weight: weight of the dice loss of the masks, in both.
        num_points: points per mask, in both.
        oversample: candidates per point of the losses, see `uncertain_points`.
        importance: share of uncertain points.

    Raises:
        ValueError: no points, fewer candidates than points, or a share outside [0, 1].
    """

    def __init__(
        self,
        *,
        mask_weight: float,
        dice_weight: float,
        num_points: int,
        oversample: float,
        importance: float,
    ) -> None:
        super().__init__()
        if num_points < 1 or oversample < 1 or not 0 <= importance <= 1:
            raise ValueError(
                "CRITERION.QUERIES needs NUM_POINTS and OVERSAMPLE of at least 1 and IMPORTANCE in "
                f"[0, 1], got {num_points}, {oversample} and {importance}"
            )
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.num_points = num_points
        self.oversample = oversample
        self.importance = importance

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``CRITERION.QUERIES`` into the constructor's arguments.

        Raises:
            ConfigError: ``CRITERION.OBJECT_WEIGHT`` over 0; these models give no object score.
        """
        if cfg.CRITERION.OBJECT_WEIGHT > 0:
            raise ConfigError(
                f"CRITERION.OBJECT_WEIGHT is {cfg.CRITERION.OBJECT_WEIGHT}, but "
                f"{cfg.MODEL.META_ARCHITECTURE} gives no object score; set it to 0"
            )
        node = cfg.CRITERION.QUERIES
        return {
            "mask_weight": node.MASK_WEIGHT,
            "dice_weight": node.DICE_WEIGHT,
            "num_points": node.NUM_POINTS,
            "oversample": node.OVERSAMPLE,
            "importance": node.IMPORTANCE,
        }

    def random_points(self, like: Tensor) -> Tensor:
        """Return points ``[1, num_points, 2]`` on the device and of the type of a tensor."""
        return torch.rand(1, self.num_points, 2, device=like.device, dtype=like.dtype)

    def loss_points(self, logits: Tensor) -> Tensor:
        """Return the points ``[N, num_points, 2]`` that masks ``[N, h, w]`` are scored at."""
        return uncertain_points(logits, self.num_points, self.oversample, self.importance)

    def mask_losses(
        self, logits: Tensor, targets: Tensor, num_masks: float, kept: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return ``loss_mask`` and ``loss_dice`` of N pairs, weighted, as scalars.

        Args:
            logits: float ``[N, K]`` at K points.
            targets: float ``[N, K]`` in [0, 1].
            num_masks: what the sums are divided by, see `TrainingContext.num_masks`.
            kept: bool ``[N]``, False for pairs that cost nothing; None keeps all.
        """
        entropy, dice = bce_loss(logits, targets), dice_loss(logits, targets)
        if kept is not None:
            entropy, dice = entropy * kept, dice * kept
        return {
            "loss_mask": self.mask_weight * entropy.sum() / num_masks,
            "loss_dice": self.dice_weight * dice.sum() / num_masks,
        }
