"""Position embedding of the cells of a map."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TEMPERATURE = 10000.0
# Keeps the last row and column a little short of the full turn, as published weights expect.
_EPSILON = 1e-6


def sine_position(
    height: int, width: int, dim: int, *, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return sines and cosines of the position of each cell of a map, ``[height * width, dim]``.

    The first half of the channels tells the row, the second the column; in each half sine and
    cosine of a frequency alternate, from one turn over the map to 1/10000 of it (DETR, arXiv
    2005.12872, appendix A.4, with positions relative to the size of the map).

    Args:
        height: rows of the map.
        width: columns of the map.
        dim: channels, a multiple of 4.
        device: where the result lives.
        dtype: type of the result; computed in float32 at least.
    """
    rows = _waves(height, dim // 2, device, dtype)
    columns = _waves(width, dim // 2, device, dtype)
    # The halves are separable: one row of waves per row and per column, then only copies.
    waves = torch.cat(
        (
            rows[:, None].expand(height, width, dim // 2),
            columns[None].expand(height, width, dim // 2),
        ),
        dim=-1,
    )
    return waves.flatten(0, 1).to(dtype)


def _waves(length: int, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return sines and cosines ``[length, dim]`` of the positions 1 to `length`."""
    dtype = torch.promote_types(dtype, torch.float32)
    position = torch.arange(1, length + 1, device=device, dtype=dtype)
    position = position / (length + _EPSILON) * (2 * math.pi)
    exponent = torch.arange(0, dim, 2, device=device, dtype=dtype) / dim
    angle = position[:, None] / _TEMPERATURE**exponent
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)
