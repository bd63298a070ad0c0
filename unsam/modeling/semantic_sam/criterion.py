"""Matching of several answers per prompt with several masks, and the losses of the pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from unsam.modeling.losses import (
    box_l1_loss,
    giou_loss,
    hungarian,
    pairwise_box_cost,
    pairwise_mask_cost,
    quality_loss,
    sample_points,
    soft_dice,
)
from unsam.modeling.point_criterion import PointCriterion

# Target masks, of the size of the input, that are copied at once.
_CHUNK = 32


@dataclass(frozen=True)
class PromptTargets:
    """What P prompts about one photo should be answered with.

    Attributes:
        masks: bool ``[K, H, W]``, masks of the photo in pixels of the padded input, none empty.
        boxes: float ``[K, 4]``, their centre x, centre y, width, height as fractions of it.
        index: int64 ``[P, T]``, the masks that each prompt may mean; -1 after the last.
    """

    masks: Tensor
    boxes: Tensor
    index: Tensor


class PromptCriterion(PointCriterion):
    """Losses of answers and masks, paired per prompt (many-to-many matching, Semantic-SAM §3.3).

    Args:
        mask_weight: see `PointCriterion`.
        dice_weight: see `PointCriterion`.
        box_weight: weight of the L1 distance of boxes, in the losses and in the matching.
        giou_weight: weight of one minus the generalised IoU of boxes, in both.
        quality_weight: weight of the squared error of the predicted ``1 - dice loss``.
        num_points: see `PointCriterion`.
        oversample: see `PointCriterion`.
        importance: see `PointCriterion`.
    """

    def __init__(
        self,
        *,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        box_weight: float = 5.0,
        giou_weight: float = 2.0,
        quality_weight: float = 1.0,
        num_points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
    ) -> None:
        super().__init__(
            mask_weight=mask_weight,
            dice_weight=dice_weight,
            num_points=num_points,
            oversample=oversample,
            importance=importance,
        )
        self.box_weight = box_weight
        self.giou_weight = giou_weight
        self.quality_weight = quality_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``CRITERION.QUERIES`` into the constructor's arguments."""
        node = cfg.CRITERION.QUERIES
        return super().from_config(cfg) | {
            "box_weight": node.BOX_WEIGHT,
            "giou_weight": node.GIOU_WEIGHT,
            "quality_weight": node.QUALITY_WEIGHT,
        }

    @torch.no_grad()
    def match(self, logits: Tensor, boxes: Tensor, targets: PromptTargets) -> tuple[Tensor, Tensor]:
        """Pair answers with targets of the same prompt, one to one, at the least total cost.

        Args:
            logits: mask logits ``[P, M, h, w]``.
            boxes: ``[P, M, 4]``.
            targets: at most M per prompt.

        Returns:
            int64 ``[N]``: answers, counted over all prompts (``p * M + m``), and the masks of
            `targets` that they should be.
        """
        cost = self.cost(logits, boxes, targets)
        counts = (targets.index >= 0).sum(1)
        pairs = hungarian(
            [block[:, :count] for block, count in zip(cost, counts.tolist(), strict=True)]
        )
        rows, columns = (torch.cat(part) for part in zip(*pairs, strict=True))
        prompts = torch.arange(len(counts), device=rows.device)
        prompts = prompts.repeat_interleave(counts, output_size=len(rows))
        return rows + prompts * boxes.shape[1], targets.index[prompts, columns]

    def cost(self, logits: Tensor, boxes: Tensor, targets: PromptTargets) -> Tensor:
        """Return the cost ``[P, M, T]`` of answering each prompt's targets with its answers.

        Only pairs within a prompt are looked at, so the published huge cost of all other pairs is
        not needed. Arguments as of `match`. Entries without a target are to be left out.
        """
        P, M = boxes.shape[:2]
        points = self.random_points(logits)
        answers = sample_points(logits.flatten(0, 1)[None], points)[0]
        truth = sample_points(targets.masks[None], points)[0]
        cost = pairwise_mask_cost(answers, truth, self.mask_weight, self.dice_weight)
        cost = cost + pairwise_box_cost(
            boxes.flatten(0, 1), targets.boxes, self.box_weight, self.giou_weight
        )
        columns = targets.index.clamp(min=0)[:, None].expand(-1, M, -1)
        return cost.view(P, M, -1).gather(2, columns)

    def forward(
        self,
        logits: Tensor,
        quality: Tensor,
        boxes: Tensor,
        targets: PromptTargets,
        masks: Tensor,
        num_masks: float,
    ) -> dict[str, Tensor]:
        """Return the weighted losses of N pairs as scalars.

        Args:
            logits: ``[N, h, w]``.
            quality: ``[N]``, predicted ``1 - dice loss``.
            boxes: ``[N, 4]``.
            targets: of the prompts that were answered.
            masks: int64 ``[N]``, which mask of `targets` each answer should be, see `match`.
            num_masks: what the sums are divided by, see `TrainingContext.num_masks`.
        """
        points = self.loss_points(logits)
        answers = sample_points(logits[:, None], points)[:, 0]
        truth = _masks_at(targets.masks, masks, points).to(answers.dtype)
        true_boxes = targets.boxes[masks]
        error = quality_loss(quality, soft_dice(answers.detach(), truth), "mse")
        return self.mask_losses(answers, truth, num_masks) | {
            "loss_box": self.box_weight * box_l1_loss(boxes, true_boxes).sum() / num_masks,
            "loss_giou": self.giou_weight * giou_loss(boxes, true_boxes).sum() / num_masks,
            "loss_quality": self.quality_weight * error.sum() / num_masks,
        }


def _masks_at(masks: Tensor, index: Tensor, points: Tensor) -> Tensor:
    """Return ``masks[index]`` at points ``[N, K, 2]``, ``[N, K]``; few masks are copied at once."""
    return torch.cat(
        [
            sample_points(masks[some, None], where)[:, 0]
            for some, where in zip(index.split(_CHUNK), points.split(_CHUNK), strict=True)
        ]
    )


def mask_boxes(masks: Tensor) -> Tensor:
    """Return the boxes of bool ``[K, H, W]`` masks as fractions of H and W.

    Returns:
        float32 ``[K, 4]``: centre x, centre y, width, height. None of the masks may be empty.
    """
    columns, rows = masks.any(1).float(), masks.any(2).float()
    W, H = columns.shape[1], rows.shape[1]
    first = torch.stack((columns.argmax(1) / W, rows.argmax(1) / H), dim=1)
    last = torch.stack((1 - columns.flip(1).argmax(1) / W, 1 - rows.flip(1).argmax(1) / H), dim=1)
    return torch.cat(((first + last) / 2, last - first), dim=1)
