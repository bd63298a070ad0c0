"""Boundary precision, recall and F: counts per photo, and the scores over photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unsam.evaluation.boundaries.correspondence import TOLERANCE, corresponding_pixels
from unsam.evaluation.boundaries.thinning import thinned

THRESHOLDS = np.linspace(0.01, 0.99, 99)


class OperatingPoint(NamedTuple):
    """Threshold, recall, precision and F of one point of a precision-recall curve."""

    threshold: float
    recall: float
    precision: float
    f: float


def boundary_counts(
    strength: np.ndarray,
    people: Sequence[np.ndarray],
    thresholds: np.ndarray = THRESHOLDS,
    tolerance: float = TOLERANCE,
) -> np.ndarray:
    """Count the boundary pixels of one photo that have a partner, at each threshold.

    Args:
        strength: ``[H, W]``; marked is what is at least the threshold, then thinned.
        people: the boundary map ``bool [H, W]`` of each annotator.
        thresholds: ``float64 [K]``, ascending.
        tolerance: see `corresponding_pixels`.

    Returns:
        ``int64 [K, 4]``: pixels of people with a partner, summed over people; all pixels of
        people; predicted pixels with a partner of anybody; all predicted pixels.
    """
    truth = sum(int(np.count_nonzero(person)) for person in people)
    counts = np.zeros((len(thresholds), 4), np.int64)
    marks_before = -1
    for row, threshold in enumerate(thresholds):
        marked = strength >= threshold
        marks = int(np.count_nonzero(marked))
        if marks == marks_before:
            counts[row] = counts[row - 1]
            continue
        marks_before = marks
        lines = thinned(marked)
        found = [corresponding_pixels(lines, person, tolerance) for person in people]
        recalled = sum(int(np.count_nonzero(item)) for item in found)
        correct = int(np.count_nonzero(np.any(found, axis=0)))
        counts[row] = recalled, truth, correct, np.count_nonzero(lines)
    return counts


def recall_and_precision(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision of counts ``[..., 4]``; 0 where there is nothing to count."""
    parts = counts.astype(np.float64)
    recall = parts[..., 0] / np.maximum(parts[..., 1], 1)
    precision = parts[..., 2] / np.maximum(parts[..., 3], 1)
    return recall, precision


def f_measure(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return the harmonic mean, 0 where both are 0."""
    total = recall + precision
    return np.asarray(2 * recall * precision / np.where(total > 0, total, 1))


def best_point(counts: np.ndarray, thresholds: np.ndarray = THRESHOLDS) -> OperatingPoint:
    """Return the point of best F on the lines between neighbouring thresholds.

    Recall, precision and threshold are interpolated at 100 points of each line, the first best
    one counts (the benchmark's code).

    Args:
        counts: ``[K, 4]`` of `boundary_counts`, of one photo or summed over photos.
        thresholds: ``float64 [K]``.
    """
    recall, precision = recall_and_precision(counts)
    columns = np.stack([thresholds, recall, precision])
    share = np.linspace(0, 1, 100)
    lines = columns[:, 1:, None] * share + columns[:, :-1, None] * (1 - share)
    points = np.concatenate([columns[:, :1], lines.reshape(3, -1)], axis=1)
    f = f_measure(points[1], points[2])
    best = int(f.argmax())
    threshold, best_recall, best_precision = (float(value) for value in points[:, best])
    return OperatingPoint(threshold, best_recall, best_precision, float(f[best]))


def best_counts(counts: np.ndarray) -> np.ndarray:
    """Return the counts ``[4]`` of a photo at its best threshold, the last of equal ones."""
    f = f_measure(*recall_and_precision(counts))
    return np.asarray(counts[int(np.flatnonzero(f == f.max())[-1])])


def average_precision(counts: np.ndarray) -> float:
    """Return the area under precision over recall, from counts ``[K, 4]`` summed over photos.

    Precision is interpolated linearly at recall 0, 0.01, ..., 1 and 0 outside the range that the
    thresholds reach; the sum is multiplied by 0.01, as in the benchmark.
    """
    recall, precision = recall_and_precision(counts)
    reached, first = np.unique(recall, return_index=True)
    if reached.size < 2:
        return 0.0
    grid = np.arange(101) / 100
    return float(np.interp(grid, reached, precision[first], left=0.0, right=0.0).sum() * 0.01)
