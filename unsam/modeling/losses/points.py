"""Masks at points instead of at all pixels (PointRend, Mask2Former).

Points are ``[..., 2]`` x, y as shares of the map's width and height, so the same points fit the
mask logits at a quarter of the input and the target masks at the input's own size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Read maps at points, bilinearly; zero outside.

    Args:
        maps: ``[N, C, h, w]``, a float type or bool. Bool maps are read at the four pixels around
            each point, without a float copy of the whole map.
        points: ``[N, K, 2]`` in [0, 1].

    Returns:
        ``[N, C, K]`` in the type of the maps; of bool maps in that of the points.
    """
    if maps.dtype == torch.bool:
        return _sample_bool(maps, points)
    grid = (2 * points - 1)[:, :, None].to(maps.dtype)
    return F.grid_sample(maps, grid, mode="bilinear", align_corners=False)[..., 0]


def _sample_bool(maps: Tensor, points: Tensor) -> Tensor:
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
    sureness = sample_points(logits[:, None], candidates)[:, 0].abs()
    chosen = sureness.topk(num_chosen, dim=1, largest=False).indices
    chosen_points = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    others = torch.rand(count, num_points - num_chosen, 2, device=logits.device, dtype=logits.dtype)
    return torch.cat((chosen_points, others), dim=1)
