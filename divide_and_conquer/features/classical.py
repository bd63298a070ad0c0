"""Weight-free features: colour, texture and gradient statistics of every pixel.

Colour is a soft histogram of CIE Lab: each channel has evenly spaced bins, and a value shares its
unit weight between the two nearest ones. Texture is the energy of the lightness gradient in four
orientations at three scales, averaged over a neighbourhood, each entry again spread over soft bins
of its logarithm. Both are histograms, hence their mean over a region is the region's histogram,
and the cosine between two means compares distributions rather than mean colours.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from fvcore.common.config import CfgNode

from unsam.regions.colour import colour_histograms, soft_bins, to_lab

ORIENTATIONS = 4
TEXTURE_SCALES = (1.0, 2.0, 4.0)


class ClassicalFeatures:
    """Callable: photo ``uint8 [H, W, 3]`` to features ``float32 [H, W, D]``, one per pixel."""

    def __init__(self, *, color_bins: int, texture_bins: int, texture_weight: float) -> None:
        """Keep the settings.

        Args:
            color_bins: soft bins for each of the three Lab channels, at least 2.
            texture_bins: soft bins for each of the 12 gradient energies, at least 2.
            texture_weight: length of the texture part relative to the colour part; 0 leaves the
                texture out.
        """
        if min(color_bins, texture_bins) < 2:
            raise ValueError("color_bins and texture_bins must be 2 or more")
        self.color_bins = color_bins
        self.texture_bins = texture_bins
        self.texture_weight = texture_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ClassicalFeatures:
        """Build from PSEUDO_MASKS.FEATURES."""
        node = cfg.PSEUDO_MASKS.FEATURES
        return cls(
            color_bins=node.COLOR_BINS,
            texture_bins=node.TEXTURE_BINS,
            texture_weight=node.TEXTURE_WEIGHT,
        )

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Return ``float32 [H, W, 3 * color_bins (+ 12 * texture_bins)]``."""
        channels = [colour_histograms(photo, self.color_bins)]
        if self.texture_weight > 0:
            # 12 texture histograms against 3 of colour: a quarter of the weight each.
            weight = np.float32(self.texture_weight * np.sqrt(3 / 12))
            for energy in gradient_energies(to_lab(photo)[..., 0]):
                bins = soft_bins(np.log1p(energy), 0.0, 3.0, self.texture_bins)
                channels.append(bins * weight)
        return np.concatenate(channels, axis=2)

    def batch(self, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the features of each photo."""
        return [self(photo) for photo in photos]


def gradient_energies(lightness: np.ndarray) -> list[np.ndarray]:
    """Return 12 maps ``float32 [H, W]``: gradient energy per scale and orientation, averaged."""
    maps = []
    for scale in TEXTURE_SCALES:
        smooth = cv2.GaussianBlur(lightness, (0, 0), scale)
        along_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=scale / 8)
        along_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=scale / 8)
        strength = np.hypot(along_x, along_y)
        angle = np.arctan2(along_y, along_x)
        for k in range(ORIENTATIONS):
            share = np.maximum(0, np.cos(2 * (angle - k * np.pi / ORIENTATIONS)))
            maps.append(cv2.GaussianBlur(strength * share * share, (0, 0), 3.0))
    return maps


def edge_strength(photo: np.ndarray, scales: tuple[float, ...] = (1.0, 2.0)) -> np.ndarray:
    """Return ``float32 [H, W]``: length of the Lab gradient, times its scale, summed over scales.

    In Lab units: about the colour difference across an edge that is as wide as the scale.
    """
    lab = to_lab(photo)
    total = np.zeros(lab.shape[:2], np.float32)
    for scale in scales:
        smooth = cv2.GaussianBlur(lab, (0, 0), scale)
        along_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=scale / 8)
        along_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=scale / 8)
        total += np.sqrt((along_x**2 + along_y**2).sum(axis=2))
    return total
