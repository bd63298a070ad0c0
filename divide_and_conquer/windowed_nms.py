"""The suppression of copies as the released pipelines do it: against the next few masks by area."""

from __future__ import annotations

import numpy as np

from unsam.regions.compiled import kernel
from unsam.structures import MaskSet

# A mask is compared with the next WINDOW - 1 ones.
WINDOW = 5


def windowed_nms(masks: MaskSet, iou_threshold: float, window: int = WINDOW) -> np.ndarray:
    """Return the masks that the published suppression keeps, largest first, ``int64 [K]``.

    Masks are sorted by area, largest first, equal ones in their order. Each one that is still kept
    is compared with those in the next ``window - 1`` places, and these go when their IoU with it
    is above `iou_threshold` (reference sheets: UnSAM section 1.3, step 11; UnSAMv2 section 1.3,
    step 7). Copies further apart stay: of six equal masks the first and the last.
    `MaskSet.nms(order="area")` is the exact counterpart.
    """
    areas = masks.areas
    order = np.argsort(-areas, kind="stable")
    return order[_suppress(masks.runs, masks.offsets, areas, order, iou_threshold, window)]


@kernel
def _suppress(
    runs: np.ndarray,
    offsets: np.ndarray,
    areas: np.ndarray,
    order: np.ndarray,
    iou_threshold: float,
    window: int,
) -> np.ndarray:
    """Return ``bool [N]``: which places of the order are kept."""
    keep = np.ones(order.size, np.bool_)
    for place in range(order.size):
        if not keep[place]:
            continue
        one = order[place]
        for later in range(place + 1, min(place + window, order.size)):
            other = order[later]
            common = _intersection(
                runs[offsets[one] : offsets[one + 1]], runs[offsets[other] : offsets[other + 1]]
            )
            union = areas[one] + areas[other] - common
            if union and common / union > iou_threshold:
                keep[later] = False
    return keep


@kernel
def _intersection(first: np.ndarray, second: np.ndarray) -> int:
    """Return the common pixels of two masks, each ``int32 [R, 2]``."""
    total, a, b = 0, 0, 0
    while a < first.shape[0] and b < second.shape[0]:
        total += max(0, min(first[a, 1], second[b, 1]) - max(first[a, 0], second[b, 0]))
        if first[a, 1] < second[b, 1]:
            a += 1
        else:
            b += 1
    return total
