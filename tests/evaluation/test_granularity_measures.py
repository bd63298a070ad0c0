from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.evaluation.synthetic import random_rectangles
from unsam.evaluation.granularity_measures import (
    best_overlaps,
    measured_granularity,
    rank_correlation,
    side_octaves,
)
from unsam.structures import MaskSet


def test_octaves_of_the_side() -> None:
    rng = np.random.default_rng(0)
    areas = np.concatenate([rng.integers(1, 321 * 481 + 1, 300), rng.integers(1, 3000, 300)])
    shares = np.sqrt(areas / (321 * 481))
    expected = [min(6, math.floor(-math.log2(share))) for share in shares]
    assert side_octaves(areas, (321, 481)).tolist() == expected
    assert set(expected) == set(range(7))


def test_the_lower_end_belongs_to_an_octave() -> None:
    areas = np.array([4096, 1024, 1023, 256, 255, 1, 0])
    assert side_octaves(areas, (64, 64)).tolist() == [0, 0, 1, 1, 2, 5, 6]


def test_best_overlaps_equal_the_definition_and_are_0_without_masks() -> None:
    rng = np.random.default_rng(1)
    truth, found = (random_rectangles(rng, 50, 60, count) for count in (6, 9))
    expected = [
        max((mask & target).sum() / (mask | target).sum() for mask in found) for target in truth
    ]
    truths = MaskSet.from_masks(truth)
    assert best_overlaps(truths, MaskSet.from_masks(found)).tolist() == expected
    assert best_overlaps(truths, MaskSet.empty((50, 60))).tolist() == [0.0] * 6


def nested(sides: list[int], left: int = 0, size: int = 40) -> np.ndarray:
    masks = np.zeros((len(sides), size, 2 * size), bool)
    for mask, side in zip(masks, sides, strict=True):
        mask[:side, left : left + side] = True
    return masks


def test_the_published_values_whatever_else_is_on_the_photo() -> None:
    """Areas 25, 100, 400, 900 have the granularities 0.1, 0.28, 0.64, 1."""
    both = np.concatenate([nested([20, 5, 30, 10]), nested([8, 24], left=40), nested([3], left=70)])
    found = measured_granularity(MaskSet.from_masks(both))
    np.testing.assert_allclose(found, [0.64, 0.1, 1.0, 0.28, 0.1, 1.0, np.nan])


def test_copies_of_a_mask_change_nothing() -> None:
    masks = nested([30, 10, 30, 29, 10])
    np.testing.assert_allclose(
        measured_granularity(MaskSet.from_masks(masks)), [1.0, 0.1, 1.0, 1.0, 0.1]
    )
    alone = measured_granularity(MaskSet.from_masks(nested([30, 29, 28])))
    assert np.isnan(alone).all()
    assert len(measured_granularity(MaskSet.empty((5, 5)))) == 0


def dense_measure(masks: np.ndarray, score: np.ndarray) -> list[float]:
    """The definition, on dense masks, one step after the other."""

    def iou(a: int, b: int) -> float:
        return (masks[a] & masks[b]).sum() / (masks[a] | masks[b]).sum()

    area = masks.sum((1, 2))
    distinct: list[int] = []
    for index in sorted(range(len(masks)), key=lambda i: (-score[i], i)):
        if all(iou(index, other) <= 0.8 for other in distinct):
            distinct.append(index)

    def whole_of(index: int) -> int:
        around = [
            other
            for other in distinct
            if area[other] > area[index]
            and (masks[index] & masks[other]).sum() >= 0.9 * area[index]
        ]
        return whole_of(min(around, key=lambda i: area[i])) if around else index

    values: dict[int, float] = {}
    for index in distinct:
        family = [i for i in distinct if whole_of(i) == whole_of(index)]
        sides = [math.sqrt(area[i]) for i in family]
        low, high = min(sides), max(sides)
        own = math.sqrt(area[index])
        values[index] = 0.1 + 0.9 * (own - low) / (high - low) if high > low else math.nan
    return [values[max(distinct, key=lambda d: iou(i, d))] for i in range(len(masks))]


@pytest.mark.parametrize("seed", range(4))
def test_random_masks_equal_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = random_rectangles(rng, 40, 50, 30)
    masks = np.concatenate([masks, np.roll(masks[:10], 1, axis=2)])
    # No two of one area, so that nothing depends on the order of equals.
    _, first = np.unique(masks.sum((1, 2)), return_index=True)
    masks = masks[np.sort(first)]
    score = rng.permutation(len(masks)) / 100
    found = measured_granularity(MaskSet.from_masks(masks, score=score))
    np.testing.assert_allclose(found, dense_measure(masks, score), atol=1e-9)
    assert np.isfinite(found).any()


def test_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(2)
    for shape in ((4, 91), (2, 2), (3, 5)):
        table = rng.integers(0, 4, shape) * (rng.random(shape) < 0.5)
        table[0, 0] += 1
        table[-1, -1] += 1
        pairs = np.repeat(np.argwhere(table >= 0), table.ravel(), axis=0)
        assert rank_correlation(table) == pytest.approx(spearmanr(*pairs.T).statistic)
    assert rank_correlation(np.diag([3, 1, 8])) == pytest.approx(1)
    assert rank_correlation(np.diag([3, 1, 8])[::-1]) == pytest.approx(-1)
    assert rank_correlation(np.full((3, 4), 5)) == pytest.approx(0)
    assert math.isnan(rank_correlation(np.array([[0, 5], [0, 2]])))
    assert math.isnan(rank_correlation(np.zeros((2, 2), int)))
