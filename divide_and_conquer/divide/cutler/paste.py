"""Mask probabilities over a box to runs over the photo, without any array of the photo's size."""

from __future__ import annotations

import math

import numpy as np

from unsam.regions.compiled import kernel
from unsam.structures import MaskSet
from unsam.structures.mask_set import concatenate_runs

THRESHOLD = 0.5


def paste_masks(
    probabilities: np.ndarray, boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int]
) -> MaskSet:
    """Return the masks of detections in a photo, source ``divide``, in the given order.

    Probabilities are interpolated bilinearly at the centres of the photo's pixels, are 0 outside
    of their grid, and count as inside from 0.5 on. A mask may come out empty.

    Args:
        probabilities: ``float32 [N, S, S]`` in [0, 1], each evenly spread over its box.
        boxes: ``float [N, 4]``, XYXY in pixels of the photo, of positive width and height.
        scores: ``float32 [N]``.
        size: ``(H, W)`` of the photo.
    """
    height, width = size
    parts = [
        _paste(np.ascontiguousarray(probability, np.float32), box, height, width)
        for probability, box in zip(probabilities, np.asarray(boxes, np.float64), strict=True)
    ]
    if not parts:
        return MaskSet.empty(size)
    return MaskSet(size, *concatenate_runs(parts), score=scores, source="divide")


@kernel
def _samples(low: float, high: float, cells: int, pixels: int) -> tuple[int, np.ndarray]:
    """Return where the pixel centres of one axis lie in a grid of cells spread from low to high.

    Returns:
        The first pixel, and for it and those after it the positions ``float64 [K]``, counted in
        cells from the centre of the first one; all of [-1, cells) is covered.
    """
    first = max(math.floor(low) - 1, 0)
    last = min(math.ceil(high) + 1, pixels)
    position = np.empty(max(last - first, 0), np.float64)
    for index in range(position.size):
        position[index] = (first + index + 0.5 - low) / (high - low) * cells - 0.5
    return first, position


@kernel
def _blend_columns(probability: np.ndarray, position: float, out: np.ndarray) -> None:
    """Write the column at a position between columns to ``out [S + 2]``, a zero at both ends."""
    cells = probability.shape[0]
    left = math.floor(position)
    share = position - left
    for row in range(cells):
        value = 0.0
        if 0 <= left < cells:
            value += (1.0 - share) * probability[row, left]
        if 0 <= left + 1 < cells:
            value += share * probability[row, left + 1]
        out[row + 1] = value


@kernel
def _paste(probability: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the runs ``int32 [R, 2]`` of one mask; arguments as of `paste_masks`."""
    cells = probability.shape[0]
    left, across = _samples(box[0], box[2], cells, width)
    top, down = _samples(box[1], box[3], cells, height)
    above = np.empty(down.size, np.int64)
    share = np.empty(down.size, np.float64)
    for row in range(down.size):
        # Beyond half a cell outside the box nothing reaches the threshold; the zeros serve there.
        position = min(max(down[row], -1.0), float(cells))
        above[row] = min(math.floor(position) + 1, cells)
        share[row] = position + 1 - above[row]
    column = np.zeros(cells + 2, np.float64)
    runs = np.empty((64, 2), np.int32)
    count = 0
    for step in range(across.size):
        _blend_columns(probability, across[step], column)
        base = (left + step) * height + top
        inside = False
        for row in range(down.size):
            place = above[row]
            value = column[place] + share[row] * (column[place + 1] - column[place])
            if (value >= THRESHOLD) == inside:
                continue
            inside = not inside
            if not inside:
                runs[count - 1, 1] = base + row
                continue
            if count and runs[count - 1, 1] == base + row:
                continue
            if count == len(runs):
                grown = np.empty((2 * count, 2), np.int32)
                grown[:count] = runs
                runs = grown
            runs[count, 0] = base + row
            count += 1
        if inside:
            runs[count - 1, 1] = base + down.size
    return runs[:count].copy()
