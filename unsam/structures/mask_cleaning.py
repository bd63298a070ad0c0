"""Filling holes and dropping islands of one mask, inside its own box."""

from __future__ import annotations

import cv2
import numpy as np

from unsam.structures import runs as run_ops


def clean_mask(
    runs: np.ndarray, box: np.ndarray, size: tuple[int, int], max_hole: int, min_island: int
) -> np.ndarray:
    """Return the runs of a mask with small holes filled and small islands removed.

    Args:
        runs: ``int32 [R, 2]`` of the mask.
        box: its XYXY box ``int64 [4]``, maxima exclusive.
        size: ``(H, W)`` of the image.
        max_hole: 4-connected background pieces of at most this many pixels are filled unless they
            touch the border of the box; 0 fills none.
        min_island: 8-connected pieces of fewer pixels are dropped, the largest never; 0 drops none.
    """
    if not runs.size:
        return runs
    height = size[0]
    left, top, right, bottom = (int(value) for value in box)
    columns = np.zeros((right - left, height), np.uint8)
    run_ops.paint(runs - np.int32(left * height), columns.reshape(-1), 1)
    crop = np.ascontiguousarray(columns[:, top:bottom])
    if min_island > 0:
        _drop_islands(crop, min_island)
    if max_hole > 0:
        _fill_holes(crop, max_hole)
    columns[:, top:bottom] = crop
    return run_ops.encode_flat(columns.reshape(-1)) + np.int32(left * height)


def _drop_islands(crop: np.ndarray, min_area: int) -> None:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(crop, connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    drop = area < min_area
    drop[0] = False
    if count > 1:
        drop[1 + int(area[1:].argmax())] = False
    crop[drop[labels]] = 0


def _fill_holes(crop: np.ndarray, max_area: int) -> None:
    inverse = (crop == 0).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inverse, connectivity=4)
    fill = stats[:, cv2.CC_STAT_AREA] <= max_area
    fill[0] = False
    # Background that reaches the border of the box is outside the mask, not a hole in it.
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        fill[edge] = False
    crop[fill[labels]] = 1
