from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.bsds_golden import read_bsds
from unsam.evaluation.boundaries.boundary_map import ucm_strength
from unsam.evaluation.boundaries.boundary_scores import (
    average_precision,
    best_counts,
    best_point,
    boundary_counts,
    f_measure,
    recall_and_precision,
)


def test_counts_are_those_of_the_original_matcher(golden_root: Path) -> None:
    """The original is random itself: see the tolerances of golden/evaluation/README.md."""
    thresholds, photos, summary = read_bsds(golden_root)
    total = np.zeros((len(thresholds), 4))
    for photo in photos:
        counts = boundary_counts(ucm_strength(photo.ucm), photo.boundaries, thresholds)
        np.testing.assert_array_equal(counts[:, [1, 3]], photo.boundary_counts[:, [1, 3]])
        found = np.array(recall_and_precision(counts))
        golden = np.array(recall_and_precision(photo.boundary_counts))
        np.testing.assert_allclose(found, golden, atol=0.003)
        best = summary["per_image_T_R_P_F"][photo.name][3]
        assert best_point(counts, thresholds).f == pytest.approx(best, abs=5e-4)
        total += counts
    point, golden_point = best_point(total, thresholds), summary["boundary_ODS_T_R_P_F"]
    assert point.f == pytest.approx(golden_point[3], abs=1e-4)
    assert point[1:3] == pytest.approx(golden_point[1:3], abs=1e-3)
    assert average_precision(total) == pytest.approx(summary["boundary_AP"], abs=3e-4)


def test_scores_of_the_golden_counts(golden_root: Path) -> None:
    thresholds, photos, summary = read_bsds(golden_root)
    counts = np.stack([photo.boundary_counts for photo in photos])
    assert best_point(counts.sum(axis=0), thresholds) == pytest.approx(
        summary["boundary_ODS_T_R_P_F"], abs=1e-12
    )
    for photo in photos:
        expected = summary["per_image_T_R_P_F"][photo.name]
        assert best_point(photo.boundary_counts, thresholds) == pytest.approx(expected, abs=1e-12)
    recall, precision = recall_and_precision(np.sum([best_counts(item) for item in counts], axis=0))
    found = [recall, precision, f_measure(recall, precision)]
    assert found == pytest.approx(summary["boundary_OIS_R_P_F"], abs=1e-12)
    golden = summary["boundary_AP"]
    assert average_precision(counts.sum(axis=0)) == pytest.approx(golden, abs=1e-12)


def test_precision_counts_a_pixel_that_anybody_drew() -> None:
    left, right = np.zeros((60, 80), bool), np.zeros((60, 80), bool)
    left[:, 20], right[:, 60] = True, True
    strength = np.where(left, 0.8, np.where(right, 0.4, 0.0))
    counts = boundary_counts(strength, [left, right, left], np.array([0.3, 0.5, 0.9]))
    lines = [120, 60, 0]
    np.testing.assert_array_equal(counts[:, 1], 180)
    np.testing.assert_array_equal(counts[:, 0], [180, 120, 0])
    np.testing.assert_array_equal(counts[:, 3], lines)
    np.testing.assert_array_equal(counts[:, 2], lines)


def test_the_curve_of_two_points_is_a_line() -> None:
    counts = np.array([[100, 100, 20, 100], [50, 100, 80, 100]])
    grid = np.arange(50, 101) / 100
    area = (0.8 + (grid - 0.5) / 0.5 * (0.2 - 0.8)).sum() * 0.01
    assert average_precision(counts) == pytest.approx(area)
    assert average_precision(counts[:1]) == 0
    point = best_point(counts, np.array([0.2, 0.4]))
    assert point.recall == pytest.approx(1 - 2.5 * (point.threshold - 0.2))
    assert point.precision == pytest.approx(0.2 + 3 * (point.threshold - 0.2))
    assert point.f >= f_measure(*recall_and_precision(counts)).max()
    assert best_point(np.zeros((3, 4)), np.array([0.1, 0.2, 0.3])) == (0.1, 0, 0, 0)
