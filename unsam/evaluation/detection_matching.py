"""COCO's matching of detections with the truth, one photo at a time.

What is kept of a photo is two bits for each detection, IoU threshold and size range; no mask is
needed after that. `unsam.evaluation.coco_scores` adds photos up. The rules are those of
pycocotools (``COCOeval.evaluateImg``), number for number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unsam.regions.compiled import kernel
from unsam.structures import MaskSet

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZE_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Areas in pixels, both ends included: an object of just 32^2 is small and medium."""

# pycocotools lets an IoU of 1 pass a threshold of 1 by this much.
_HIGHEST_THRESHOLD = 1 - 1e-10
_FOUND, _FALSE = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class PhotoMatches:
    """What the detections of one photo found; small, and all that AP and AR need of it.

    The T thresholds are `IOU_THRESHOLDS`, the A ranges `SIZE_RANGES`. Bits are packed along the
    detections (`numpy.packbits`).

    Attributes:
        scores: ``[D]``, descending, as given.
        found: bits ``uint8 [A, T, ceil(D / 8)]``, detections matched with an object of that size.
        false: likewise, those that match nothing and are of that size. The others do not count.
        num_objects: ``int64 [A]``, objects of that size, without crowd regions.
        best_iou: ``float64 [G]``, for each object the best overlap with any detection, 0 for none.
    """

    scores: np.ndarray
    found: np.ndarray
    false: np.ndarray
    num_objects: np.ndarray
    best_iou: np.ndarray

    def outcomes(self, size: int) -> np.ndarray:
        """Return ``uint8 [T, D]`` of one size range: 1 found, 2 false, 0 does not count."""
        count = self.scores.size
        found, false = (
            np.unpackbits(bits[size], axis=-1, count=count) for bits in (self.found, self.false)
        )
        return found * np.uint8(_FOUND) + false * np.uint8(_FALSE)


def match_detections(
    overlaps: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    truth_areas: np.ndarray,
    crowd: np.ndarray,
) -> PhotoMatches:
    """Match the detections of one photo by COCO's greedy rule.

    From the highest score down, each detection takes the object not yet taken that it overlaps
    most (the last of equals), if by the threshold or more. Objects outside of the size range and
    crowd regions come only where no object of the range is left for it; such a match does not
    count, and crowd regions can be matched any number of times. A detection without a match is
    false if its own area is in the range.

    Since what comes later takes nothing from what came before, the matches of the k best
    detections are the first k entries: limits on their number are applied afterwards.

    Args:
        overlaps: ``float64 [D, G]``, see `mask_overlaps`.
        scores: ``[D]``, descending.
        areas: ``[D]``, pixels of the detections.
        truth_areas: ``[G]``, pixels that decide the size of the objects.
        crowd: ``bool [G]``.

    Raises:
        ValueError: scores that do not descend, or arrays that do not fit together.
    """
    overlaps = np.asarray(overlaps, np.float64)
    scores, crowd = np.asarray(scores), np.asarray(crowd, bool)
    if overlaps.shape != (scores.size, crowd.size):
        raise ValueError(f"overlaps {overlaps.shape} of {scores.size} and {crowd.size} masks")
    if (scores[1:] > scores[:-1]).any():
        raise ValueError("scores must descend; sort the detections first")
    areas, truth_areas = np.asarray(areas, np.float64), np.asarray(truth_areas, np.float64)
    thresholds = np.minimum(IOU_THRESHOLDS, _HIGHEST_THRESHOLD)
    ranges = np.array(list(SIZE_RANGES.values()))
    rows, partners = np.nonzero(overlaps >= thresholds.min())
    starts = np.searchsorted(rows, np.arange(scores.size + 1))
    outcomes = _match(overlaps, starts, partners, areas, truth_areas, crowd, thresholds, ranges)
    inside = (truth_areas >= ranges[:, :1]) & (truth_areas <= ranges[:, 1:])
    return PhotoMatches(
        scores=scores,
        found=np.packbits(outcomes == _FOUND, axis=-1),
        false=np.packbits(outcomes == _FALSE, axis=-1),
        num_objects=(inside & ~crowd).sum(axis=1),
        best_iou=overlaps.max(axis=0, initial=0.0)[~crowd],
    )


def mask_overlaps(masks: MaskSet, truth: MaskSet, crowd: np.ndarray) -> np.ndarray:
    """Return the IoU of every pair, ``float64 [D, G]``; with a crowd region its share of the mask.

    Args:
        masks: D detections.
        truth: G objects and crowd regions of the same photo.
        crowd: ``bool [G]``.
    """
    common = masks.intersections(truth)
    areas = masks.areas[:, None]
    union = np.where(crowd, areas, areas + truth.areas - common)
    return common / np.maximum(union, 1)


@kernel
def _match(
    overlaps: np.ndarray,
    starts: np.ndarray,
    partners: np.ndarray,
    areas: np.ndarray,
    truth_areas: np.ndarray,
    crowd: np.ndarray,
    thresholds: np.ndarray,
    ranges: np.ndarray,
) -> np.ndarray:
    """Return the outcome of each detection, ``uint8 [A, T, D]``.

    Detection d overlaps ``partners[starts[d]:starts[d + 1]]`` (ascending) enough for some threshold
    and no other: almost all pairs of a photo are never looked at.
    """
    outcomes = np.zeros((ranges.shape[0], thresholds.size, areas.size), np.uint8)
    for size in range(ranges.shape[0]):
        low, high = ranges[size, 0], ranges[size, 1]
        ignored = crowd | (truth_areas < low) | (truth_areas > high)
        for level in range(thresholds.size):
            taken = np.zeros(crowd.size, np.bool_)
            for row in range(areas.size):
                best = thresholds[level]
                match = -1
                # Objects that count first, ignored ones only if there was none.
                for turn in (False, True):
                    for place in range(starts[row], starts[row + 1]):
                        column = partners[place]
                        if ignored[column] != turn or (taken[column] and not crowd[column]):
                            continue
                        if overlaps[row, column] >= best:
                            best = overlaps[row, column]
                            match = column
                    if match >= 0:
                        break
                if match >= 0:
                    taken[match] = True
                    if not ignored[match]:
                        outcomes[size, level, row] = _FOUND
                elif low <= areas[row] <= high:
                    outcomes[size, level, row] = _FALSE
    return outcomes
