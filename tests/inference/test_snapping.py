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


def test_a_click_and_a_granularity_name_the_region(regions: np.ndarray) -> None:
    masks = MaskSet.from_masks(regions, granularity=[0.9, 0.3, 0.33])
    snapper = RegionSnapper(masks, 0.01)
    like_second = np.where(regions[1], 0.9, 0.0).astype(np.float32)
    click = np.array([[6.0, 5.0]]), np.array([POSITIVE])
    for granularity, answer in ((0.9, 0), (0.3, 1), (0.34, 1)):
        found = snapper(like_second, *click, granularity)
        assert np.array_equal(found, regions[answer])
    # None of that granularity, no click, or a region that the click is not in: the mask decides.
    assert np.array_equal(snapper(like_second, *click, 0.6), regions[1])
    corner = np.array([[6.0, 5.0]]), np.array([BOX_FIRST])
    assert np.array_equal(snapper(like_second, *corner, 0.9), regions[1])


def test_of_regions_alike_in_granularity_the_mask_decides(regions: np.ndarray) -> None:
    inner = regions[1].copy()
    inner[4:7] = False
    masks = MaskSet.from_masks(np.stack([regions[1], inner]), granularity=[0.3, 0.31])
    snapper = RegionSnapper(masks, 0.01)
    click = np.array([[6.0, 8.0]]), np.array([POSITIVE])
    for wanted in (regions[1], inner):
        assert np.array_equal(snapper(wanted.astype(np.float32), *click, 0.305), wanted)


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
