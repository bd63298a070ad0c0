"""What it costs to answer each target by each answer, and the cheapest pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

_WORST_COST = 1e6


@torch.no_grad()
def pairwise_mask_cost(
    logits: Tensor, targets: Tensor, mask_weight: float, dice_weight: float
) -> Tensor:
    """Return the weighted sum of `bce_loss` and `dice_loss` of all pairs, at shared points.

    By two matrix products, as ``BCE(x, t) = softplus(x) - x t``.

    Args:
        logits: float ``[Q, K]``.
        targets: ``[M, K]`` in [0, 1].
        mask_weight: of the cross entropy.
        dice_weight: of the dice loss.

    Returns:
        ``[Q, M]`` in the type of the logits.
    """
    targets = targets.to(logits.dtype)
    # Products of half precision would not tell neighbouring costs apart.
    with torch.autocast(logits.device.type, enabled=False):
        entropy = (F.softplus(logits).sum(1)[:, None] - logits @ targets.T) / logits.shape[1]
        probability = logits.sigmoid()
        size = probability.sum(1)[:, None] + targets.sum(1)[None]
        dice = 1 - (2 * (probability @ targets.T) + 1) / (size + 1)
    return mask_weight * entropy + dice_weight * dice


@torch.no_grad()
def pairwise_box_cost(
    boxes: Tensor, targets: Tensor, l1_weight: float, giou_weight: float
) -> Tensor:
    """Return the weighted sum of `box_l1_loss` and of the negative generalised IoU of all pairs.

    Args:
        boxes: float ``[Q, 4]``: centre x, centre y, width, height.
        targets: ``[M, 4]``, the same.
        l1_weight: of the distance.
        giou_weight: of the generalised IoU.

    Returns:
        ``[Q, M]`` in the type of the boxes.
    """
    targets = targets.to(boxes.dtype)
    # Imported here: it takes over a second, and few models have boxes.
    from torchvision.ops import box_convert, generalized_box_iou

    overlap = generalized_box_iou(
        box_convert(boxes, "cxcywh", "xyxy"), box_convert(targets, "cxcywh", "xyxy")
    )
    return l1_weight * torch.cdist(boxes, targets, p=1) - giou_weight * overlap


def hungarian(costs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pair the rows of each block with its columns, each at most once, at the least total cost.

    All blocks leave the device in one transfer, and all pairs come back in one.

    Args:
        costs: float ``[Q, M]`` each, of one type and device; entries that are not finite are taken
            for very high ones.

    Returns:
        For each block rows, ascending, and their columns, int64 ``[min(Q, M)]``.
    """
    if not costs:
        return []
    flat = torch.cat([cost.detach().flatten() for cost in costs]).cpu().numpy()
    finite = np.nan_to_num(flat, nan=_WORST_COST, posinf=_WORST_COST, neginf=-_WORST_COST)
    ends = np.cumsum([cost.numel() for cost in costs])[:-1]
    pairs = [
        np.stack(linear_sum_assignment(block.reshape(cost.shape)))
        for block, cost in zip(np.split(finite, ends), costs, strict=True)
    ]
    joined = torch.from_numpy(np.concatenate(pairs, axis=1)).to(costs[0].device)
    parts = joined.split([block.shape[1] for block in pairs], dim=1)
    return [(part[0], part[1]) for part in parts]
