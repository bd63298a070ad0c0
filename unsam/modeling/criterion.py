"""The losses of masks and of their predicted quality (SAM, SAM 2)."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F


class MaskCriterion(nn.Module):
    """Focal and dice loss of the masks, and the error of the predicted IoU, weighted.

    Every loss is averaged over the pixels of a mask first and then summed over masks and divided
    by their number over all processes, so that each mask counts the same.

    Args:
        focal_weight: weight of the focal loss (Lin et al. 2017).
        focal_alpha: weight of the foreground in it; below 0 both sides weigh the same.
        focal_gamma: exponent that plays down pixels which are right already; 0 is cross entropy.
        focal_normalized: divide each mask's focal loss by the sum of its pixels' focal factors
            (Sofiiuk et al. 2019) instead of by their number. The pixels that are still wrong then
            keep their say however few they are: a model that starts from nothing would otherwise
            first learn that most of a photo is not the mask, and be slow to unlearn it.
        dice_weight: weight of the dice loss (Milletari et al. 2016).
        quality_weight: weight of the loss of the predicted IoU.
        quality_loss: "l1" (SAM 2) or "mse" (SAM).
    """

    def __init__(
        self,
        *,
        focal_weight: float = 20.0,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
        focal_normalized: bool = False,
        dice_weight: float = 1.0,
        quality_weight: float = 1.0,
        quality_loss: str = "l1",
    ) -> None:
        super().__init__()
        if quality_loss not in ("l1", "mse"):
            raise ValueError(f"CRITERION.QUALITY_LOSS is 'l1' or 'mse', got {quality_loss!r}")
        self.focal_weight = focal_weight
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma
        self.focal_normalized = focal_normalized
        self.dice_weight = dice_weight
        self.quality_weight = quality_weight
        self.quality_loss = quality_loss

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``CRITERION`` into the constructor's arguments."""
        node = cfg.CRITERION
        return {
            "focal_weight": node.FOCAL_WEIGHT,
            "focal_alpha": node.FOCAL_ALPHA,
            "focal_gamma": node.FOCAL_GAMMA,
            "focal_normalized": node.FOCAL_NORMALIZED,
            "dice_weight": node.DICE_WEIGHT,
            "quality_weight": node.QUALITY_WEIGHT,
            "quality_loss": node.QUALITY_LOSS,
        }

    def forward(
        self, logits: Tensor, quality: Tensor, targets: Tensor, inside: Tensor, num_masks: float
    ) -> dict[str, Tensor]:
        """Return the weighted losses of P masks as scalars.

        Args:
            logits: float ``[P, h, w]``.
            quality: float ``[P]``, predicted IoU.
            targets: float ``[P, h, w]`` in [0, 1], the share of each cell that the mask covers.
            inside: bool ``[P, h, w]``, False in the padding, which counts for nothing.
            num_masks: what the sums are divided by, see `TrainingContext.num_masks`.
        """
        logits = logits.to(torch.float32).flatten(1)
        targets, inside = targets.flatten(1), inside.flatten(1)
        focal = self._focal(logits, targets, inside)
        iou = mask_iou(logits.detach() > 0, targets > 0.5, inside)
        error = (quality - iou).abs() if self.quality_loss == "l1" else (quality - iou).square()
        return {
            "loss_focal": self.focal_weight * focal.sum() / num_masks,
            "loss_dice": self.dice_weight * dice_loss(logits, targets, inside).sum() / num_masks,
            "loss_quality": self.quality_weight * error.sum() / num_masks,
        }

    def _focal(self, logits: Tensor, targets: Tensor, inside: Tensor) -> Tensor:
        """Return the focal loss of each row of ``[P, N]``, ``[P]``."""
        probability = logits.sigmoid()
        loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        right = probability * targets + (1 - probability) * (1 - targets)
        if self.focal_alpha >= 0:
            loss = loss * (self.focal_alpha * targets + (1 - self.focal_alpha) * (1 - targets))
        factor = (1 - right) ** self.focal_gamma * inside
        if self.focal_normalized:
            # Where all pixels are right the sum of the factors is next to nothing, and so would
            # be the denominator; below one pixel's worth the loss fades as the plain one does.
            return (loss * factor).sum(1) / factor.detach().sum(1).clamp(min=1.0)
        return (loss * factor).sum(1) / inside.sum(1).clamp(min=1)


def dice_loss(logits: Tensor, targets: Tensor, inside: Tensor) -> Tensor:
    """Return one minus the soft dice coefficient of each row of ``[P, N]``; shape ``[P]``."""
    probability = logits.sigmoid() * inside
    targets = targets * inside
    overlap = 2 * (probability * targets).sum(1)
    # One more on both sides: nothing predicted for nothing to find is right.
    return 1 - (overlap + 1) / (probability.sum(1) + targets.sum(1) + 1)


def mask_iou(first: Tensor, second: Tensor, inside: Tensor) -> Tensor:
    """Return the IoU of the rows of two bool ``[P, N]`` within `inside`, float32 ``[P]``.

    Two empty masks have IoU 0: a prompt always asks for something.
    """
    intersection = (first & second & inside).sum(1)
    union = ((first | second) & inside).sum(1)
    return intersection / union.clamp(min=1)
