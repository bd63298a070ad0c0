"""Colour histograms of pixels, whose mean over a region is the histogram of the region."""

from __future__ import annotations

import cv2
import numpy as np

LAB_RANGES = ((0.0, 100.0), (-60.0, 60.0), (-60.0, 60.0))


def colour_histograms(photo: np.ndarray, bins: int) -> np.ndarray:
    """Return soft histograms of CIE Lab of every pixel, ``float32 [H, W, 3 * bins]``.

    Each channel has evenly spaced bins, and a value shares its unit weight between the two nearest
    ones, so that the cosine between two means compares distributions rather than mean colours.

    Args:
        photo: ``uint8 [H, W, 3]``, RGB.
        bins: of each channel, at least 2.
    """
    lab = to_lab(photo)
    return np.concatenate(
        [
            soft_bins(lab[..., channel], low, high, bins)
            for channel, (low, high) in enumerate(LAB_RANGES)
        ],
        axis=2,
    )


def to_lab(photo: np.ndarray) -> np.ndarray:
    """Return CIE Lab (D65) ``float32 [H, W, 3]``: L in [0, 100], a and b about [-100, 100]."""
    return cv2.cvtColor(photo.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)


def soft_bins(values: np.ndarray, low: float, high: float, count: int) -> np.ndarray:
    """Spread each value of ``[H, W]`` over the two nearest of `count` bin centres.

    Centres are evenly spaced from `low` to `high`; values beyond are clipped.

    Returns:
        ``float32 [H, W, count]``; entries of a pixel add up to 1.
    """
    place = np.clip((values - low) * ((count - 1) / (high - low)), 0, count - 1)
    distance = np.abs(place[..., None].astype(np.float32) - np.arange(count, dtype=np.float32))
    return np.maximum(np.float32(0), np.float32(1) - distance)
