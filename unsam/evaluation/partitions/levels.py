"""Families of partitions of a photo, from fine to coarse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from unsam.structures import MaskSet


def ucm_partitions(ucm: np.ndarray, thresholds: Sequence[float]) -> Iterator[np.ndarray]:
    """Yield the partition of an ultrametric contour map at each threshold.

    Its regions are the 8-connected pieces of the places with strength up to the threshold, taken
    at the pixels, which are the odd rows and columns of the doubled grid.

    Args:
        ucm: ``[2H + 1, 2W + 1]``.
        thresholds: strengths.

    Yields:
        ``int32 [H, W]``, labels from 0.

    Raises:
        ValueError: a map with an even number of rows or columns.
    """
    if ucm.ndim != 2 or ucm.shape[0] % 2 == 0 or ucm.shape[1] % 2 == 0:
        raise ValueError(f"a contour map is [2H + 1, 2W + 1], got shape {ucm.shape}")
    for threshold in thresholds:
        inside = (ucm <= threshold).astype(np.uint8)
        yield cv2.connectedComponents(inside, connectivity=8, ltype=cv2.CV_32S)[1][1::2, 1::2]


def granularity_partitions(masks: MaskSet, granularities: Sequence[float]) -> Iterator[np.ndarray]:
    """Yield the partition that a mask set stands for at each granularity.

    At granularity g all masks of at least g are painted, the larger first and the smaller over
    them, so every pixel goes to the smallest region that is no finer than asked for. What no mask
    covers is one region more. Contours of masks are closed, thus regions do not leak into each
    other as they do through the gaps of a thresholded sum of contours.

    Args:
        masks: masks of one photo with their granularities.
        granularities: values in [0.1, 1].

    Yields:
        ``int32 [H, W]``, labels from 0, which stands for what no mask covers.
    """
    for granularity in granularities:
        # Values such as 0.3 are stored in float32, which may lie a little lower.
        yield masks.filter(masks.granularity >= granularity - 1e-6).label_map() + 1
