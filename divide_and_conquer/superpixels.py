"""Pixel-accurate starting regions that follow the edges of a photo."""

from __future__ import annotations

import cv2
import numpy as np
from skimage.segmentation import felzenszwalb

from unsam.regions.region_graph import relabel


def felzenszwalb_regions(
    photo: np.ndarray, *, scale: float, sigma: float, min_size: int
) -> np.ndarray:
    """Partition a photo ``uint8 [H, W, 3]`` by Felzenszwalb and Huttenlocher's method (2004).

    Args:
        photo: RGB.
        scale: larger gives larger regions.
        sigma: Gaussian smoothing before, in pixels.
        min_size: regions below this many pixels are joined to a neighbour.

    Returns:
        ``int32 [H, W]``, 0 to N - 1, in the order of their first pixels.
    """
    if min(photo.shape[:2]) < 2:
        # The method needs neighbours in both directions.
        doubled = cv2.copyMakeBorder(photo, 0, 1, 0, 1, cv2.BORDER_REPLICATE)
        labels = felzenszwalb(doubled, scale=scale, sigma=sigma, min_size=min_size)
        labels = labels[: photo.shape[0], : photo.shape[1]]
    else:
        labels = felzenszwalb(photo, scale=scale, sigma=sigma, min_size=min_size)
    return relabel(labels)
