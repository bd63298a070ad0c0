"""Contours of many masks, counted on their runs."""

from __future__ import annotations

import numpy as np
import pytest

from unsam.regions.contours import contour_strength
from unsam.structures import MaskSet


def by_pixels(masks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The same from dense masks ``bool [N, H, W]`` and their weights ``[N]``."""
    total = np.zeros(masks.shape[1:])
    for axis in (0, 1):
        ends = np.zeros(masks.shape[1:])
        later = [slice(None)] * 2
        later[axis] = slice(1, None)
        earlier = [slice(None)] * 2
        earlier[axis] = slice(None, -1)
        differ = np.diff(masks.astype(int), axis=axis + 1) != 0
        ends[tuple(later)] = np.tensordot(weights, differ, 1)
        total = np.maximum(total, ends)
        total[tuple(earlier)] = np.maximum(total[tuple(earlier)], ends[tuple(later)])
    strength = np.log1p(total)
    return np.round(255 * strength / max(strength.max(), 1e-12)).astype(np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (13, 7), (24, 31)])
def test_it_equals_counting_on_pixels(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[0])
    dense = rng.random((12, *size)) > 0.6
    dense[0], dense[1] = True, False
    dense[2, :, : size[1] // 2] = True
    score = rng.random(12).astype(np.float32)
    found = contour_strength(MaskSet.from_masks(dense, score=score))
    expected = by_pixels(dense, score / score.max())
    assert np.abs(found.astype(int) - expected).max() <= 1
    none = contour_strength(MaskSet.from_masks(dense, score=np.zeros(12)))
    assert np.abs(none.astype(int) - by_pixels(dense, np.ones(12))).max() <= 1


def test_boundaries_of_many_masks_are_the_strongest() -> None:
    dense = np.zeros((3, 20, 20), bool)
    dense[:, :, :10] = True
    dense[1:, :10] = False
    strength = contour_strength(MaskSet.from_masks(dense))
    assert (strength[15, 9:11] == 255).all()
    assert 0 < strength[5, 9] < strength[9, 5] < 255
    assert strength[:, :8][2:8].max() == 0
    assert strength[:, 12:].max() == 0


def test_nothing_has_no_contours() -> None:
    assert contour_strength(MaskSet.empty((4, 5))).tolist() == [[0] * 5] * 4
