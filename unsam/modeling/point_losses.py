"""Mask losses and matching costs at points instead of at all pixels (PointRend, Mask2Former).

Points are ``[..., 2]`` x, y as shares of the map's width and height, so the same points fit the
mask logits at a quarter of the input and the target masks at the input's own size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

_WORST_COST = 1e6


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
        """Translate ``CRITERION.QUERIES`` into the constructor's arguments."""
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


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Read maps at points, bilinearly; zero outside.

    Args:
        maps: ``[N, 1, h, w]`` or ``[N, C, h, w]``, a float type or bool. Bool maps are read at
            the four pixels around each point, without a float copy of the whole map.
        points: ``[N, K, 2]`` in [0, 1].

    Returns:
        ``[N, K]`` of one channel, ``[N, C, K]`` of several, in the type of the maps (float32 of
        bool maps).
    """
    if maps.dtype == torch.bool:
        sampled = _sample_bool(maps, points)
    else:
        grid = (2 * points - 1)[:, :, None].to(maps.dtype)
        sampled = F.grid_sample(maps, grid, mode="bilinear", align_corners=False)[..., 0]
    return sampled[:, 0] if maps.shape[1] == 1 else sampled


def _sample_bool(maps: Tensor, points: Tensor) -> Tensor:
    """Return ``[N, C, K]`` of bool ``[N, C, h, w]`` at ``[N, K, 2]``."""
    N, C, h, w = maps.shape
    flat = maps.flatten(2)
    corner = points * points.new_tensor((w, h)) - 0.5
    first = corner.floor()
    share = (corner - first)[:, None]
    first = first.to(torch.int64)
    sampled = share.new_zeros((N, C, points.shape[1]))
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = first[..., 0] + dx, first[..., 1] + dy
            inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
            pixel = (y.clamp(0, h - 1) * w + x.clamp(0, w - 1))[:, None].expand(-1, C, -1)
            weight = (share[..., 0] if dx else 1 - share[..., 0]) * (
                share[..., 1] if dy else 1 - share[..., 1]
            )
            sampled += weight * (flat.gather(2, pixel) & inside[:, None])
    return sampled


@torch.no_grad()
def uncertain_points(
    logits: Tensor, num_points: int, oversample: float, importance: float
) -> Tensor:
    """Draw points, most of them where a mask is least sure (PointRend, Kirillov et al. 2020, 3.1).

    Of ``oversample * num_points`` random points the ``importance * num_points`` with the logits
    nearest zero are taken; the others are random. Uses torch's global generator.

    Args:
        logits: ``[N, h, w]``.
        num_points: K.
        oversample: at least 1.
        importance: share in [0, 1].

    Returns:
        float ``[N, K, 2]``.
    """
    count = len(logits)
    candidates = torch.rand(
        count, int(num_points * oversample), 2, device=logits.device, dtype=logits.dtype
    )
    num_chosen = int(importance * num_points)
    sureness = sample_points(logits[:, None], candidates).abs()
    chosen = sureness.topk(num_chosen, dim=1, largest=False).indices
    chosen_points = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    others = torch.rand(count, num_points - num_chosen, 2, device=logits.device, dtype=logits.dtype)
    return torch.cat((chosen_points, others), dim=1)


def point_bce(logits: Tensor, targets: Tensor, num_masks: float) -> Tensor:
    """Return the binary cross entropy, mean over points, summed over masks, over `num_masks`.

    Args:
        logits: float ``[N, K]``.
        targets: float ``[N, K]`` in [0, 1].
        num_masks: see `TrainingContext.num_masks`.
    """
    loss = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return loss.mean(1).sum() / num_masks


def point_dice(logits: Tensor, targets: Tensor, num_masks: float) -> Tensor:
    """Return one minus the soft dice coefficient, summed over masks, over `num_masks`.

    Arguments as of `point_bce`.
    """
    return (1 - soft_dice(logits, targets)).sum() / num_masks


def soft_dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the soft dice coefficient of each mask, smoothed by one point.

    Args:
        logits: float ``[N, K]``.
        targets: float ``[N, K]`` in [0, 1].

    Returns:
        ``[N]`` in [0, 1], of the type of the logits; 1 for two masks of nothing.
    """
    probability, targets = logits.sigmoid(), targets.to(logits.dtype)
    overlap = 2 * (probability * targets).sum(1)
    return (overlap + 1) / (probability.sum(1) + targets.sum(1) + 1)


@torch.no_grad()
def pairwise_mask_cost(
    logits: Tensor, targets: Tensor, mask_weight: float, dice_weight: float
) -> Tensor:
    """Return what it costs to answer each target by each query, at shared points.

    The weighted sum of the losses of `point_bce` and `point_dice`, for all pairs by two matrix
    products: ``BCE(x, t) = softplus(x) - x t``.

    Args:
        logits: float ``[Q, K]``.
        targets: float ``[M, K]`` in [0, 1].
        mask_weight: of the cross entropy.
        dice_weight: of the dice loss.

    Returns:
        ``[Q, M]`` in the type of the logits.
    """
    targets = targets.to(logits.dtype)
    entropy = (F.softplus(logits).sum(1)[:, None] - logits @ targets.T) / logits.shape[1]
    probability = logits.sigmoid()
    size = probability.sum(1)[:, None] + targets.sum(1)[None]
    dice = 1 - (2 * (probability @ targets.T) + 1) / (size + 1)
    return mask_weight * entropy + dice_weight * dice


def hungarian(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Pair rows with columns, each at most once, at the least total cost.

    Args:
        cost: ``[Q, M]``; entries that are not finite are taken for very high ones.

    Returns:
        Rows ascending and their columns, int64 ``[min(Q, M)]`` each, on the device of `cost`.
    """
    finite = np.nan_to_num(
        cost.detach().to("cpu", torch.float64).numpy(),
        nan=_WORST_COST,
        posinf=_WORST_COST,
        neginf=-_WORST_COST,
    )
    rows, columns = linear_sum_assignment(finite)
    return torch.from_numpy(rows).to(cost.device), torch.from_numpy(columns).to(cost.device)
