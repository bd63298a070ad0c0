"""Crops to pixels of whole patches, and position embeddings for any grid of patches."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

SHAPES = ("square", "longest")
# ImageNet's RGB mean and standard deviation, on the 0 to 1 scale.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


def input_size(height: int, width: int, *, side: int, shape: str, patch: int) -> tuple[int, int]:
    """Return the (H, W) in pixels, whole patches, to which a crop of H x W pixels is resized.

    Args:
        height: of the crop, in pixels.
        width: of the crop, in pixels.
        side: the side to reach, in pixels.
        shape: "square" for both sides, "longest" for the longer side, the other in proportion.
        patch: side of a patch; both sides are rounded up to a multiple of it.

    Raises:
        ValueError: the crop is empty.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a crop needs one pixel at least, got {height}x{width}")
    if shape == "square":
        height = width = 1
    longer = max(height, width)
    # In whole numbers: ceil(side * height / longer / patch), at least 1.
    rows = -(-side * height // (longer * patch))
    columns = -(-side * width // (longer * patch))
    return rows * patch, columns * patch


def to_pixels(crop: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Resize a crop ``uint8 [H, W, 3]`` (RGB, PIL's bicubic) and normalise it.

    Returns:
        ``float32 [3, *size]`` on the CPU.
    """
    image = Image.fromarray(np.ascontiguousarray(crop))
    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    scaled = torch.from_numpy(np.asarray(image, np.float32) / np.float32(255))
    normal = (scaled - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)
    return normal.permute(2, 0, 1).contiguous()


def resize_positions(
    positions: torch.Tensor, base: tuple[int, int], grid: tuple[int, int], *, ratio: bool = False
) -> torch.Tensor:
    """Interpolate the position embeddings of a grid of patches, bicubic.

    Args:
        positions: ``float [1, base rows * base columns, D]``.
        base: (rows, columns) that the embeddings were learned for.
        grid: (rows, columns) wanted.
        ratio: False samples as DINO and DINOv2 do: the scale per axis is (patches + 0.1) / base,
            and that scale, not the ratio of the sizes, enters the sampling positions. True
            samples by the ratio of the sizes, smoothed where it shrinks, as DINOv2 with registers.

    Returns:
        ``float [1, rows * columns, D]``.
    """
    if grid == base:
        return positions
    image = positions.reshape(1, *base, -1).permute(0, 3, 1, 2).float()
    if ratio:
        image = F.interpolate(image, size=grid, mode="bicubic", antialias=True)
    else:
        scale = ((grid[0] + 0.1) / base[0], (grid[1] + 0.1) / base[1])
        image = F.interpolate(image, scale_factor=scale, mode="bicubic")
    return image.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)
