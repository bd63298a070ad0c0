from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_cdt

from tests.evaluation.synthetic import random_rectangles
from unsam.evaluation.boundaries import boundary_bands, boundary_iou
from unsam.structures import MaskSet


def brute_force_band(mask: np.ndarray, distance: int) -> np.ndarray:
    to_outside = distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
    return mask & (to_outside <= distance)


def shapes(seed: int, count: int, size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    masks = random_rectangles(rng, *size, count) ^ random_rectangles(rng, *size, count)
    masks[0] = False
    masks[1] = True
    return masks


@pytest.mark.parametrize(("ratio", "distance"), [(0.02, 2), (0.05, 6), (0.001, 1)])
def test_bands_are_the_pixels_near_the_outside(ratio: float, distance: int) -> None:
    masks = shapes(0, 12, (70, 95))
    bands = boundary_bands(MaskSet.from_masks(masks), ratio).masks()
    np.testing.assert_array_equal(bands, [brute_force_band(mask, distance) for mask in masks])


def test_pairs_are_the_iou_of_the_bands() -> None:
    first, second = shapes(1, 6, (60, 80)), shapes(2, 5, (60, 80))
    found = boundary_iou(MaskSet.from_masks(first), MaskSet.from_masks(second))
    expected = np.zeros((6, 5))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            one, other = brute_force_band(a, 2), brute_force_band(b, 2)
            expected[i, j] = (one & other).sum() / max((one | other).sum(), 1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_mask_has_itself_and_fields_stay() -> None:
    masks = MaskSet.from_masks(shapes(3, 4, (60, 80)), score=[0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(np.diag(boundary_iou(masks, masks)), [0, 1, 1, 1])
    np.testing.assert_array_equal(boundary_bands(masks).score, masks.score)
