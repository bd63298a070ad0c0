"""Coarse answers take the outlines of regions."""

from __future__ import annotations

import numpy as np
import pytest

from unsam.inference.snapping import RegionSnapper
from unsam.modeling.prompts import BOX_FIRST, NEGATIVE, POSITIVE
from unsam.structures import MaskSet

SIZE = (20, 30)
NOWHERE = (np.zeros((0, 2)), np.zeros(0, int))


@pytest.fixture
def regions() -> np.ndarray:
    dense = np.zeros((3, *SIZE), bool)
    dense[0, 2:18, 2:28] = True
    dense[1, 4:10, 5:15] = True
    dense[2, 4:10, 15:25] = True
    return dense


def soft_iou(probability: np.ndarray, region: np.ndarray) -> float:
    both = probability[region].sum()
    return float(both / (region.sum() + probability.sum() - both))


def test_the_region_of_the_largest_soft_iou_is_taken(regions: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    snapper = RegionSnapper(MaskSet.from_masks(regions), 0.01)
    for _ in range(20):
        probability = rng.random(SIZE).astype(np.float32) ** rng.integers(1, 30)
        best = max(range(3), key=lambda index: soft_iou(probability, regions[index]))
        found = snapper(probability, *NOWHERE)
        assert found is not None
        assert np.array_equal(found, regions[best])


def test_an_answer_that_agrees_with_no_region_stays(regions: np.ndarray) -> None:
    probability = np.zeros(SIZE, np.float32)
    probability[4:10, 5:15] = 0.9
    iou = soft_iou(probability, regions[1])
    assert RegionSnapper(MaskSet.from_masks(regions), iou + 0.01)(probability, *NOWHERE) is None
    assert RegionSnapper(MaskSet.from_masks(regions), iou - 0.01)(probability, *NOWHERE) is not None
    assert RegionSnapper(MaskSet.empty(SIZE), 0.0)(probability, *NOWHERE) is None


def test_clicks_rule_regions_out(regions: np.ndarray) -> None:
    probability = np.zeros(SIZE, np.float32)
    probability[4:10, 5:15] = 0.9
    snapper = RegionSnapper(MaskSet.from_masks(regions), 0.01)
    points, labels = np.array([[6.0, 5.0], [20.0, 5.0]]), np.array([POSITIVE, POSITIVE])
    assert np.array_equal(snapper(probability, points, labels), regions[0])
    labels = np.array([POSITIVE, NEGATIVE])
    assert np.array_equal(snapper(probability, points, labels), regions[1])
    assert snapper(probability, np.array([[0.0, 0.0]]), np.array([POSITIVE])) is None
    corner = np.array([BOX_FIRST])
    assert np.array_equal(snapper(probability, np.array([[0.0, 0.0]]), corner), regions[1])
