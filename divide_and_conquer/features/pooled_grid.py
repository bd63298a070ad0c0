"""Pixel features averaged over square patches: what a ViT's grid is, without weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from divide_and_conquer.features.build import FeatureExtractor

PATCH = 8


class PooledGrid:
    """Callable: photo to the mean of another extractor's pixel features in each patch."""

    def __init__(self, features: FeatureExtractor, grid_size: int) -> None:
        """Wrap `features`; `grid_size` is the number of patches along a photo's longer side."""
        self.features = features
        self.grid_size = grid_size

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Return ``float32 [h, w, D]`` for a photo ``uint8 [H, W, 3]``, max(h, w) = grid_size."""
        height, width = photo.shape[:2]
        factor = self.grid_size / max(height, width)
        rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
        size = (columns * PATCH, rows * PATCH)
        smaller = size[0] * size[1] < height * width
        resized = cv2.resize(
            photo, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        )
        patches = self.features(resized).reshape(rows, PATCH, columns, PATCH, -1)
        return patches.mean(axis=(1, 3), dtype=np.float32)

    def batch(self, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the grid of each photo."""
        return [self(photo) for photo in photos]
