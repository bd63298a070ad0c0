"""BSDS500's protocol on one photo: boundaries at 99 thresholds, regions at 99 levels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

PHOTO = "101085"
# Recorded, not measured here: the original C++ matcher, one photo, 99 thresholds, one core.
ORIGINAL_SECONDS = 24.0


def benchmark_boundaries() -> dict[str, Any]:
    """Return seconds for one published contour map, and the difference to the golden F.

    The contour map and the counts of the original matcher are those of UNSAM_GOLDEN.
    """
    from benchmark import median_seconds
    from unsam.evaluation.boundaries.boundary_map import label_boundaries, ucm_strength
    from unsam.evaluation.boundaries.boundary_scores import (
        THRESHOLDS,
        best_point,
        boundary_counts,
    )
    from unsam.evaluation.partitions import score_partitions, ucm_partitions

    root = Path(os.environ.get("UNSAM_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
    folder = root / "evaluation"
    code = cv2.imread(str(folder / "bsds_ucm" / f"{PHOTO}.png"), cv2.IMREAD_UNCHANGED)
    contours = np.where(code > 0, (code + 0.5) / 256, 0)
    segments = np.load(folder / "bsds_gt.npz")[f"{PHOTO}_segments"]
    people = [np.unique(item, return_inverse=True)[1].reshape(item.shape) for item in segments]
    lines = [label_boundaries(item) for item in people]
    strength = ucm_strength(contours)
    boundary_seconds = median_seconds(lambda: boundary_counts(strength, lines), repeats=3)
    region_seconds = median_seconds(
        lambda: score_partitions(ucm_partitions(contours, list(THRESHOLDS)), people), repeats=3
    )
    golden = np.load(folder / "bsds_counts.npz")
    thresholds = golden["thresholds"]
    ours = best_point(boundary_counts(strength, lines, thresholds), thresholds).f
    return {
        "annotators": len(people),
        "thresholds": len(THRESHOLDS),
        "boundary_seconds": boundary_seconds,
        "original_boundary_seconds_recorded": ORIGINAL_SECONDS,
        "region_seconds": region_seconds,
        "f": ours,
        "f_minus_golden": ours - best_point(golden[f"{PHOTO}_boundary"], thresholds).f,
    }
