"""Contours of a set of masks: where many of them end, and how many."""

from __future__ import annotations

import numpy as np

from unsam.regions.compiled import kernel
from unsam.structures import MaskSet


def contour_strength(masks: MaskSet) -> np.ndarray:
    """Return how strong the contours of a hierarchy are, from all its masks at once.

    A boundary that outlives many merges is the boundary of many masks. Strength is the logarithm
    of their number, relative to the largest of the photo, and belongs to both pixels beside the
    boundary (cf. the ultrametric contour map of Arbelaez et al. 2011). It is counted on the runs:
    the work is the length of all boundaries, and no mask is decoded.

    Args:
        masks: all masks of one photo.

    Returns:
        ``uint8 [H, W]``, 0 where no mask ends and 255 at the strongest contour.
    """
    height, width = masks.size
    below = np.zeros(height * width, np.int32)
    right = np.zeros(height * width, np.int32)
    for index in range(len(masks)):
        _count(masks.runs_of(index), height, below, right)
    # Entry (x, y): the boundary between this pixel and the one above, or the one to the left.
    above = below.reshape(width, height).T
    left = right.reshape(width, height).T
    count = np.maximum(above, left)
    count[:-1] = np.maximum(count[:-1], above[1:])
    count[:, :-1] = np.maximum(count[:, :-1], left[:, 1:])
    strength = np.log1p(count)
    return np.round(255 * strength / max(strength.max(), 1e-12)).astype(np.uint8)


@kernel
def _count(runs: np.ndarray, height: int, above: np.ndarray, left: np.ndarray) -> None:
    """Add the boundaries of one mask, whose runs go down the columns, ``[R, 2]`` start and end."""
    total = len(above)
    for r in range(len(runs)):
        for k in range(2):
            place = runs[r, k]
            if place < total and place % height:
                above[place] += 1
    # Neighbours to the left lie one column, so `height` places, before: where exactly one of the
    # runs and the runs moved on by a column covers a place, the mask ends there.
    i = j = 0
    inside = moved = False
    place = 0
    while i < 2 * len(runs) or j < 2 * len(runs):
        own = runs[i // 2, i % 2] if i < 2 * len(runs) else total + height
        other = runs[j // 2, j % 2] + height if j < 2 * len(runs) else total + height
        here = min(own, other)
        if inside != moved:
            for at in range(max(place, height), min(here, total)):
                left[at] += 1
        place = here
        if own == here:
            inside = not inside
            i += 1
        if other == here:
            moved = not moved
            j += 1
