"""The granularity of a mask: where its size lies between the finest part and the whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

FINEST = 0.1
WHOLE = 1.0
# The fine end of the scale is no coarser than this share of the whole; see `granularity`.
FINE_SHARE = 0.01


def granularity(areas: ArrayLike, fine_share: float = FINE_SHARE) -> np.ndarray:
    """Return the granularity of each mask of one instance (its parts and itself).

    ``0.1 + 0.9 * (sqrt(A) - sqrt(A_min)) / (sqrt(A_max) - sqrt(A_min))``, as UnSAMv2 defines it
    (arXiv 2511.13714; reference sheet, section 1.6), with its edge cases settled:

    - A single mask, or masks that are all of one area: 1, they are the whole.
    - A nearly whole part: by the formula alone a part of 95 % of its object would be the finest
      mask if it is the only part. Hence A_min is at most `fine_share` of A_max: such a part gets
      0.97. Where a mask is smaller than that, the formula is the published one.
    - Masks of equal area get equal values, also when they are the smallest.
    - An empty mask gets 0.1 and does not move the others.

    Args:
        areas: ``[N]`` pixels, not negative.
        fine_share: the cap of A_min as a share of A_max; 1 is the published formula.

    Returns:
        ``float32 [N]`` in [0.1, 1].

    Raises:
        ValueError: an area is negative or not finite.
    """
    area = np.asarray(areas, np.float64).reshape(-1)
    if area.size and not (np.isfinite(area).all() and area.min() >= 0):
        raise ValueError("areas must be finite and not negative")
    result = np.full(area.size, WHOLE, np.float32)
    filled = area > 0
    if filled.any():
        smallest, largest = area[filled].min(), area.max()
        if smallest < largest:
            root = np.sqrt(area)
            low = np.sqrt(min(smallest, fine_share * largest))
            place = (root - low) / (np.sqrt(largest) - low)
            result = (FINEST + (WHOLE - FINEST) * place).astype(np.float32)
        result[~filled] = FINEST
    return np.clip(result, np.float32(FINEST), np.float32(WHOLE))


def granularity_of_trees(areas: ArrayLike, parent: ArrayLike) -> np.ndarray:
    """Return `granularity` of masks in several trees: each root is an instance, the rest parts.

    Args:
        areas: ``[N]`` pixels.
        parent: ``int [N]``, index of the parent, -1 for a root; no cycles.

    Returns:
        ``float32 [N]``; within a tree it never decreases with the area.
    """
    area = np.asarray(areas)
    root = np.asarray(parent, np.int64).copy()
    root = np.where(root >= 0, root, np.arange(root.size))
    while not np.array_equal(root, root[root]):
        root = root[root]
    result = np.empty(root.size, np.float32)
    for instance in np.unique(root):
        members = root == instance
        result[members] = granularity(area[members])
    return result
