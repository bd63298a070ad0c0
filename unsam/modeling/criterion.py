"""The losses of masks, of their predicted quality and of the object score (SAM, SAM 2)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from unsam.modeling.losses import (
    dice_loss,
    focal_loss,
    mask_iou,
    object_score_loss,
    quality_loss,
)


class MaskCriterion(nn.Module):
    """Focal and dice loss of the masks, error of the predicted IoU, object score, weighted.

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
        object_weight: weight of the cross entropy of the object score (SAM 2); over 0 only for
            models that give one.

    Attributes:
        loss_names: what `forward` returns.
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
        quality_loss: Literal["l1", "mse"] = "l1",
        object_weight: float = 0.0,
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
        self.object_weight = object_weight
        self.loss_names: tuple[str, ...] = ("loss_focal", "loss_dice", "loss_quality")
        if object_weight > 0:
            self.loss_names += ("loss_object",)

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
            "object_weight": node.OBJECT_WEIGHT,
        }

    def forward(
        self,
        logits: Tensor,
        quality: Tensor,
        targets: Tensor,
        inside: Tensor,
        num_masks: float,
        object_logits: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the weighted losses of P masks as scalars.

        Args:
            logits: float ``[P, h, w]``.
            quality: float ``[P]``, predicted IoU.
            targets: float ``[P, h, w]`` in [0, 1], the share of each cell that the mask covers.
            inside: bool ``[P, h, w]``, False in the padding, which counts for nothing.
            num_masks: what the sums are divided by, see `TrainingContext.num_masks`.
            object_logits: float ``[P]``, over 0 where the model sees an object; read, and then
                needed, where `object_weight` is over 0.
        """
        logits = logits.to(torch.float32).flatten(1)
        targets, inside = targets.flatten(1), inside.flatten(1)
        focal = focal_loss(
            logits,
            targets,
            inside,
            alpha=self.focal_alpha,
            gamma=self.focal_gamma,
            normalized=self.focal_normalized,
        )
        iou = mask_iou(logits.detach() > 0, targets > 0.5, inside)
        error = quality_loss(quality, iou, self.quality_loss)
        losses = {
            "loss_focal": self.focal_weight * focal.sum() / num_masks,
            "loss_dice": self.dice_weight * dice_loss(logits, targets, inside).sum() / num_masks,
            "loss_quality": self.quality_weight * error.sum() / num_masks,
        }
        if self.object_weight > 0:
            assert object_logits is not None, "models without an object score refuse this weight"
            missed = object_score_loss(object_logits, targets, inside)
            losses["loss_object"] = self.object_weight * missed.sum() / num_masks
        return losses
