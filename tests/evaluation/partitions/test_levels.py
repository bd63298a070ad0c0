from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from unsam.evaluation.partitions import granularity_partitions, ucm_partitions
from unsam.structures import MaskSet


def nested() -> MaskSet:
    """A whole of granularity 1, its half of 0.5 and a spot of 0.1 in the half."""
    masks = np.zeros((3, 20, 30), bool)
    masks[0, 2:18, 2:28] = True
    masks[1, 2:18, 2:15] = True
    masks[2, 5:9, 5:9] = True
    return MaskSet.from_masks(masks, granularity=[1.0, 0.5, 0.1])


def test_a_pixel_goes_to_the_smallest_mask_that_is_not_too_fine() -> None:
    fine, middle, coarse = granularity_partitions(nested(), [0.1, 0.3, 0.9])
    assert [fine[0, 0], fine[3, 3], fine[6, 6], fine[3, 20]] == [0, 2, 3, 1]
    assert [middle[0, 0], middle[3, 3], middle[6, 6], middle[3, 20]] == [0, 2, 2, 1]
    np.testing.assert_array_equal(coarse, nested().mask(0).astype(int))


def test_levels_of_a_hierarchy_are_nested() -> None:
    levels = list(granularity_partitions(nested(), np.linspace(0.1, 1, 19)))
    for finer, coarser in pairwise(levels):
        pairs = np.unique(np.stack([finer.ravel(), coarser.ravel()], 1), axis=0)
        assert len(pairs) == len(np.unique(finer))


def test_a_granularity_stored_in_float32_is_found() -> None:
    values = [0.1 + 0.05 * step for step in range(19)]
    masks = np.ones((1, 4, 5), bool)
    for value in values:
        one = MaskSet.from_masks(masks, granularity=[value])
        assert all(item.all() for item in granularity_partitions(one, [value]))


def test_regions_of_a_contour_map_end_at_stronger_contours() -> None:
    ucm = np.zeros((9, 13))
    ucm[:, 4] = 0.3
    ucm[:, 8] = 0.6
    counts = [len(np.unique(item)) for item in ucm_partitions(ucm, [0.1, 0.3, 0.6])]
    assert counts == [3, 2, 1]
    first = next(iter(ucm_partitions(ucm, [0.1])))
    assert first.shape == (4, 6)
    assert len(np.unique(first[:, :2])) == len(np.unique(first[:, 2:4])) == 1
    with pytest.raises(ValueError, match="2H"):
        next(iter(ucm_partitions(ucm[1:], [0.1])))
