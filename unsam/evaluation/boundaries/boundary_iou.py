"""Boundary IoU (Cheng et al., CVPR 2021): overlap of the bands along the inside of two contours."""

from __future__ import annotations

import cv2
import numpy as np

from unsam.structures import MaskSet, runs
from unsam.structures.mask_set import concatenate_runs

BAND_RATIO = 0.02


def boundary_iou(first: MaskSet, second: MaskSet, ratio: float = BAND_RATIO) -> np.ndarray:
    """Return the Boundary IoU of every pair of masks of one photo.

    Boundary AP takes the smaller of this and of the mask IoU.

    Args:
        first: N masks.
        second: M masks.
        ratio: see `boundary_bands`.

    Returns:
        ``float64 [N, M]`` in [0, 1]; 0 where both masks are empty.

    Raises:
        ValueError: masks of different photo sizes.
    """
    bands = boundary_bands(first, ratio)
    return bands.iou(bands if second is first else boundary_bands(second, ratio))


def boundary_bands(masks: MaskSet, ratio: float = BAND_RATIO) -> MaskSet:
    """Return for each mask its pixels near its contour, with the fields of the mask.

    A pixel belongs to the band if a pixel outside of the mask, or outside of the photo, is at most
    d away in rows and in columns; d is `ratio` times the diagonal, rounded, and at least 1.

    Args:
        masks: N masks.
        ratio: width of the band as a share of the photo's diagonal; the paper takes 0.02.
    """
    height, width = masks.size
    distance = max(1, round(ratio * float(np.hypot(height, width))))
    corners = masks.boxes
    parts = [
        _band(masks.runs_of(index), corners[index], height, distance) for index in range(len(masks))
    ]
    return MaskSet(
        masks.size,
        *concatenate_runs(parts),
        score=masks.score,
        granularity=masks.granularity,
        parent=masks.parent,
        source=masks.source,
    )


def _band(mask_runs: np.ndarray, box: np.ndarray, height: int, distance: int) -> np.ndarray:
    """Return the runs of one band; the work is the area of the mask's box."""
    left, top, right, bottom = (int(value) for value in box)
    if min(right - left, bottom - top) <= 2 * distance:
        return mask_runs
    columns = np.zeros((right - left, height), np.uint8)
    runs.paint(mask_runs - np.int32(left * height), columns.reshape(-1), 1)
    crop = columns[:, top:bottom]
    # The ring of zeros makes the border of the box, thus of the photo, count as outside.
    ringed = cv2.copyMakeBorder(crop, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    square = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    columns[:, top:bottom] = crop - np.asarray(cv2.erode(ringed, square)[1:-1, 1:-1], np.uint8)
    return runs.encode_flat(columns.reshape(-1)) + np.int32(left * height)
