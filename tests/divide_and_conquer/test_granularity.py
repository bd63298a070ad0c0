"""The granularity formula and its edge cases."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.granularity import granularity, granularity_of_trees


def test_published_formula():
    assert np.allclose(granularity([25, 100, 400, 900], fine_share=1.0), [0.1, 0.28, 0.64, 1.0])
    # A smallest mask below 1 % of the whole: the cap does not matter.
    areas = [9, 100, 400, 900]
    assert np.array_equal(granularity(areas), granularity(areas, fine_share=1.0))


def test_a_single_mask_is_the_whole():
    assert granularity([50]).tolist() == [1.0]
    assert granularity([]).size == 0


def test_equal_areas_are_all_the_whole():
    assert granularity([100, 100, 100]).tolist() == [1, 1, 1]


def test_a_nearly_whole_part_is_not_the_finest():
    part, whole = granularity([95, 100])
    assert whole == 1
    assert 0.95 < part < 1


def test_an_empty_mask_does_not_move_the_others():
    with_empty = granularity([0, 100, 400])
    assert with_empty[0] == np.float32(0.1)
    assert np.array_equal(with_empty[1:], granularity([100, 400]))
    assert granularity([0, 0]).tolist() == [1, 1]


def test_order_and_range():
    areas = np.random.default_rng(0).integers(0, 10**9, 500)
    values = granularity(areas)
    assert values.dtype == np.float32
    assert values.min() >= 0.1 - 1e-7
    assert values.max() == 1
    order = np.argsort(areas)
    assert (np.diff(values[order]) >= 0).all()


def test_negative_areas_are_refused():
    with pytest.raises(ValueError, match="negative"):
        granularity([1, -1])


def test_each_tree_is_an_instance_of_its_own():
    areas, parent = [10000, 2500, 100, 400, 4], [-1, 0, 1, -1, 3]
    values = granularity_of_trees(areas, parent)
    assert np.array_equal(values[:3], granularity(areas[:3]))
    assert np.array_equal(values[3:], granularity(areas[3:]))
