"""Size octaves, the granularity that masks have by their place in a hierarchy, rank correlation."""

from __future__ import annotations

import numpy as np

from unsam.structures import MaskSet

OCTAVES = 7
"""Of the side length of masks: from half the photo's up, from a quarter, ... below 1/64."""

_SAME_REGION_IOU = 0.8


def side_octaves(areas: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the octave of each mask's side length, 0 for the largest.

    The side of a mask is the square root of its area, that of the photo likewise. Octave k has the
    sides from ``2**-(k + 1)`` of the photo's up to ``2**-k`` of it; the last is open below.

    Args:
        areas: ``int64 [N]``, pixels.
        size: ``(H, W)`` of the photo.

    Returns:
        ``int64 [N]``, from 0 to ``OCTAVES - 1``.
    """
    powers = 4 ** np.arange(1, OCTAVES, dtype=np.int64)
    below = areas[:, None] * powers < size[0] * size[1]
    return below.sum(axis=1)


def best_overlaps(truth: MaskSet, masks: MaskSet) -> np.ndarray:
    """Return the highest IoU of each of N true masks with any of M masks, ``float64 [N]``."""
    if not len(masks):
        return np.zeros(len(truth))
    return truth.iou(masks).max(axis=1)


def measured_granularity(masks: MaskSet) -> np.ndarray:
    """Return the granularity that masks of one photo have by their sizes, whatever was asked.

    UnSAMv2's formula (§3, Eq. 1): among a whole and all its parts, with areas A,
    ``0.1 + 0.9 (sqrt(A) - sqrt(A_min)) / (sqrt(A_max) - sqrt(A_min))``. Wholes are the masks that
    no other contains, their parts all masks below them (containment 0.9). The formula would set
    apart a whole and a slightly smaller copy of it, so the hierarchy is built of the distinct masks
    (suppression at IoU 0.8, best score first), and every other mask has the value of the distinct
    one that it overlaps most.

    Returns:
        ``float64 [N]`` in [0.1, 1]; NaN for a whole without parts, of which sizes tell nothing.
    """
    if not len(masks):
        return np.zeros(0)
    distinct = masks.filter(masks.nms(_SAME_REGION_IOU)).with_parents()
    whole = np.where(distinct.parent < 0, np.arange(len(distinct)), distinct.parent)
    while (whole != whole[whole]).any():
        whole = whole[whole]
    side = np.sqrt(distinct.areas.astype(np.float64))
    low = np.full(len(distinct), np.inf)
    high = np.zeros(len(distinct))
    np.minimum.at(low, whole, side)
    np.maximum.at(high, whole, side)
    spread = (high - low)[whole]
    share = (side - low[whole]) / np.where(spread > 0, spread, np.nan)
    return (0.1 + 0.9 * share)[masks.iou(distinct).argmax(axis=1)]


def rank_correlation(table: np.ndarray) -> float:
    """Return Spearman's rank correlation of two ordered variables, equal values at mean rank.

    Args:
        table: ``int64 [A, B]``, how often the first is at its a-th and the second at its b-th
            value.

    Returns:
        In [-1, 1]; NaN if one of them never varies.
    """
    share = table / max(int(table.sum()), 1)
    rows, columns = share.sum(1), share.sum(0)
    # Mean ranks as shares of the count, from their mean.
    x = np.cumsum(rows) - rows / 2 - 0.5
    y = np.cumsum(columns) - columns / 2 - 0.5
    spread = float((rows @ x**2) * (columns @ y**2))
    return float(x @ share @ y) / spread**0.5 if spread > 1e-15 else float("nan")
