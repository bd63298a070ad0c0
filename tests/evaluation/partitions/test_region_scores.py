from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.bsds_golden import read_bsds
from unsam.evaluation.partitions import region_scores, score_partitions, ucm_partitions


def test_regions_of_contour_maps_score_as_in_the_benchmark(golden_root: Path) -> None:
    thresholds, photos, summary = read_bsds(golden_root)
    found = []
    for photo in photos:
        score = score_partitions(ucm_partitions(photo.ucm, thresholds), photo.segments)
        np.testing.assert_allclose(score.levels, photo.region_counts[:, [0, 2, 3]], rtol=1e-9)
        assert score.area == photo.region_counts[0, 1]
        found.append(score)
    metrics = region_scores(found, thresholds)
    for ours, golden in (("covering", "cover"), ("PRI", "PRI"), ("VI", "VI")):
        level, value = summary[f"{golden}_ODS"]
        assert metrics[f"{ours}_ODS"] == pytest.approx(value, abs=1e-9)
        assert metrics[f"{ours}_ODS_level"] == pytest.approx(level, abs=1e-9)
        assert metrics[f"{ours}_OIS"] == pytest.approx(summary[f"{golden}_OIS"], abs=1e-9)
    assert metrics["covering_best"] == pytest.approx(summary["cover_best"], abs=1e-9)


def test_each_photo_has_its_own_best_level() -> None:
    halves, whole = np.zeros((4, 6), int), np.zeros((4, 6), int)
    halves[:, 3:] = 1
    photos = [score_partitions([halves, whole], [truth]) for truth in (halves, whole, whole)]
    metrics = region_scores(photos, [0.1, 0.9])
    assert metrics["covering_ODS"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert metrics["covering_ODS_level"] == 0.9
    assert metrics["VI_ODS"] == pytest.approx(1 / 3)
    assert metrics["covering_OIS"] == metrics["covering_best"] == metrics["PRI_OIS"] == 1
    assert metrics["VI_OIS"] == 0
