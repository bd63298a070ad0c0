"""The granularity of a mask: where its size lies between the finest part and the whole.

Two scalars in [0.1, 1] are offered. `granularity` is relative to one instance: 1 is the object, 0.1
its finest part, whatever their size in the photo. It says which level of an object is meant, so a
near and a far car both have 1, and so have a car and its whole street if each is an instance.
`absolute_granularity` is relative to the photo: 1 is the whole photo. It needs no parts and no
parents, and one value means one size in all photos; but the far car gets less than a wheel of the
near one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

FINEST = 0.1
WHOLE = 1.0
# The fine end of the scale is no coarser than this share of the whole; see `granularity`.
FINE_SHARE = 0.01


def granularity(
    areas: ArrayLike, fine_share: float = FINE_SHARE, *, published: bool = False
) -> np.ndarray:
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
        published: the formula with its edge cases as released: no cap; an empty mask is the
            smallest one; of the smallest masks one is set to 0.1 and of the largest one to 1.

    Returns:
        ``float32 [N]`` in [0.1, 1].

    Raises:
        ValueError: an area is negative or not finite.
    """
    area = _checked(areas)
    if published:
        return _published_granularity(area)
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


def absolute_granularity(areas: ArrayLike, image_area: float) -> np.ndarray:
    """Return the granularity of each mask on a scale that all masks of all photos share.

    ``0.1 + 0.9 * sqrt(A / image area)``. An empty mask gets 0.1, the whole photo 1, a mask of a
    hundredth of the photo 0.19. Larger masks never get less, and no other mask matters. Beside
    `granularity`: the same mask keeps its value whether or not its parts were found, and a single
    mask is not 1; but the value of an object depends on how near it was, and most masks of a photo
    lie close together at the fine end.

    Args:
        areas: ``[N]`` pixels, not negative.
        image_area: pixels of the photo.

    Returns:
        ``float32 [N]`` in [0.1, 1].

    Raises:
        ValueError: an area is negative, not finite or larger than the photo, or that is empty.
    """
    area = _checked(areas)
    if not image_area > 0 or (area.size and area.max() > image_area):
        raise ValueError(f"areas must lie between 0 and those of the photo, {image_area} pixels")
    place = np.sqrt(area / image_area)
    result = (FINEST + (WHOLE - FINEST) * place).astype(np.float32)
    return np.clip(result, np.float32(FINEST), np.float32(WHOLE))


def granularity_of_trees(
    areas: ArrayLike,
    parent: ArrayLike,
    fine_share: float = FINE_SHARE,
    *,
    published: bool = False,
) -> np.ndarray:
    """Return `granularity` of masks in several trees: each root is an instance, the rest parts.

    Args:
        areas: ``[N]`` pixels.
        parent: ``int [N]``, index of the parent, -1 for a root; no cycles.
        fine_share: as of `granularity`.
        published: as of `granularity`.

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
        result[members] = granularity(area[members], fine_share, published=published)
    return result


def _published_granularity(area: np.ndarray) -> np.ndarray:
    result = np.full(area.size, WHOLE)
    if area.size and area.min() < area.max():
        root = np.sqrt(area)
        result = FINEST + (WHOLE - FINEST) * (root - root.min()) / (root.max() - root.min())
        order = np.argsort(area, kind="stable")
        result[order[0]], result[order[-1]] = FINEST, WHOLE
    return result.astype(np.float32)


def _checked(areas: ArrayLike) -> np.ndarray:
    """Return areas as ``float64 [N]``, or raise."""
    area = np.asarray(areas, np.float64).reshape(-1)
    if area.size and not (np.isfinite(area).all() and area.min() >= 0):
        raise ValueError("areas must be finite and not negative")
    return area
