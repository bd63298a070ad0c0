"""DropLoss: what overlaps no pseudo mask may be an object that those have missed."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def kept_pairs(logits: Tensor, targets: Tensor, drop_iou: float) -> Tensor:
    """Return which pairs keep their mask losses (DropLoss, CutLER, Wang et al. 2023, §3.3).

    Args:
        logits: float ``[N, K]`` of masks at K points.
        targets: ``[N, K]`` in [0, 1], the masks that they are matched with.
        drop_iou: pairs of no larger IoU are dropped; below 0 none is.

    Returns:
        bool ``[N]``.
    """
    probability = logits.sigmoid()
    common = (probability * targets).sum(1)
    union = probability.sum(1) + targets.sum(1) - common
    return common / union.clamp_min(1e-6) > drop_iou
