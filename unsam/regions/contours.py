"""Contours of a set of masks: where many good ones end."""

from __future__ import annotations

import numpy as np

from unsam.regions.compiled import kernel
from unsam.structures import MaskSet


def contour_strength(masks: MaskSet) -> np.ndarray:
    """Return how strong the contours of a hierarchy are, from all its masks at once.

    A boundary that outlives many merges is the boundary of many masks. Strength is the logarithm
    of the sum of their scores, relative to the largest of the photo, and belongs to both pixels
    beside the boundary (cf. the ultrametric contour map of Arbelaez et al. 2011). It is summed on
    the runs: the work is the length of all boundaries, and no mask is decoded.

    Args:
        masks: all masks of one photo; scores count relative to the best, and where none is over 0
            all masks count alike.

    Returns:
        ``uint8 [H, W]``, 0 where no mask ends and 255 at the strongest contour.
    """
    height, width = masks.size
    weights = np.nan_to_num(masks.score.astype(np.float32)).clip(min=0)
    best = weights.max(initial=0.0)
    weights = weights / best if best > 0 else np.ones_like(weights)
    # Entry (x, y): the boundary between this pixel and the one above, or the one to the left.
    to_above = np.zeros(height * width, np.float32)
    to_left = np.zeros(height * width, np.float32)
    for index in range(len(masks)):
        _add(masks.runs_of(index), weights[index], height, to_above, to_left)
    above, left = (flat.reshape(width, height).T for flat in (to_above, to_left))
    total = np.maximum(above, left)
    total[:-1] = np.maximum(total[:-1], above[1:])
    total[:, :-1] = np.maximum(total[:, :-1], left[:, 1:])
    strength = np.log1p(total)
    return np.round(255 * strength / max(strength.max(), 1e-12)).astype(np.uint8)


@kernel
def _add(runs: np.ndarray, weight: float, height: int, above: np.ndarray, left: np.ndarray) -> None:
    """Add the boundaries of one mask, whose runs go down the columns, ``[R, 2]`` start and end."""
    total = len(above)
    for r in range(len(runs)):
        for k in range(2):
            place = runs[r, k]
            if place < total and place % height:
                above[place] += weight
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
                left[at] += weight
        place = here
        if own == here:
            inside = not inside
            i += 1
        if other == here:
            moved = not moved
            j += 1
