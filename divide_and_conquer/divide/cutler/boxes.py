"""Arithmetic on boxes ``float [N, 4]``, XYXY in pixels: regression, clipping, pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from divide_and_conquer.divide.cutler.backbone import STRIDES

MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Largest logarithm of a growth in width or height, against overflow of the exponential."""

_POOLED_LEVELS = 4
_CANONICAL_SIZE = 224.0
_CANONICAL_LEVEL = 4


def apply_deltas(
    deltas: Tensor, boxes: Tensor, weights: tuple[float, float, float, float]
) -> Tensor:
    """Move and scale boxes by predicted deltas (Girshick et al. 2013, appendix C).

    Args:
        deltas: ``float [N, 4]``: shift of the centre in widths and heights, log of the growth.
        boxes: ``float32 [N, 4]``.
        weights: each delta is divided by its weight.

    Returns:
        ``float32 [N, 4]``, not clipped.
    """
    # Half precision has too few digits for pixels.
    deltas = deltas.float() / deltas.new_tensor(weights, dtype=torch.float32)
    size = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + 0.5 * size
    moved = centre + deltas[:, :2] * size
    half = 0.5 * size * deltas[:, 2:].clamp(max=MAX_LOG_SCALE).exp()
    return torch.cat([moved - half, moved + half], dim=1)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the boxes cut to an image of ``(H, W)`` pixels."""
    height, width = size
    limit = boxes.new_tensor([width, height, width, height])
    return boxes.clamp(min=0).minimum(limit)


def has_area(boxes: Tensor) -> Tensor:
    """Return ``bool [N]``: which boxes are finite and have a positive width and height."""
    return (boxes[:, 2:] > boxes[:, :2]).all(dim=1) & boxes.isfinite().all(dim=1)


def pyramid_level(boxes: Tensor) -> Tensor:
    """Return the level that each box is pooled from, ``int64 [N]`` in 0 (p2) to 3 (p5).

    Boxes of 224 pixels belong to p4; half the side is one level finer (Lin et al. 2016, eq. 1).
    """
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = torch.floor(_CANONICAL_LEVEL + torch.log2(side / _CANONICAL_SIZE + 1e-8))
    return level.clamp(2, 1 + _POOLED_LEVELS).long() - 2


def pool(levels: Sequence[Tensor], boxes: Sequence[Tensor], resolution: int) -> Tensor:
    """Pool the features under boxes, each from its level, with half-pixel alignment.

    Args:
        levels: p2 to p5 (more are ignored), ``float [B, C, H, W]``.
        boxes: one ``float32 [N_b, 4]`` per photo.
        resolution: cells per side of the result.

    Returns:
        ``float [sum of N_b, C, resolution, resolution]``, photo after photo.
    """
    photo = torch.cat(
        [item.new_full((len(item), 1), float(index)) for index, item in enumerate(boxes)]
    )
    joined = torch.cat(list(boxes))
    rois = torch.cat([photo, joined], dim=1)
    level_of = pyramid_level(joined)
    channels = levels[0].shape[1]
    pooled = levels[0].new_zeros((len(rois), channels, resolution, resolution))
    for index in range(_POOLED_LEVELS):
        chosen = (level_of == index).nonzero().squeeze(1)
        pooled[chosen] = roi_align(
            levels[index],
            rois[chosen],
            output_size=resolution,
            spatial_scale=1.0 / STRIDES[index],
            sampling_ratio=0,
            aligned=True,
        ).to(pooled.dtype)
    return pooled
