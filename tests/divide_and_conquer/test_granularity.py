"""The granularity formula and its edge cases."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.granularity import (
    absolute_granularity,
    granularity,
    granularity_of_trees,
)


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


def test_published_edge_cases():
    # An empty mask is the smallest one and moves the others; a nearly whole part is the finest.
    assert np.allclose(granularity([0, 100, 400], published=True), [0.1, 0.55, 1.0])
    assert np.allclose(granularity([95, 100], published=True), [0.1, 1.0])
    assert granularity([100, 100], published=True).tolist() == [1, 1]
    assert granularity([7], published=True).tolist() == [1]
    assert granularity([], published=True).size == 0
    ties = granularity([900, 25, 25, 400, 900], published=True)
    assert np.allclose(ties, [1, 0.1, 0.1, 0.64, 1])


def test_published_is_the_formula_without_a_cap():
    areas = np.random.default_rng(1).permutation(10**6)[:200] + 1
    assert np.allclose(granularity(areas, published=True), granularity(areas, 1.0), atol=1e-6)


def test_absolute_edges():
    values = absolute_granularity([0, 100, 2500, 10000], 10000)
    assert values.dtype == np.float32
    assert np.allclose(values, [0.1, 0.19, 0.55, 1.0])
    assert values[0] == np.float32(0.1)
    assert values[-1] == 1
    assert absolute_granularity([], 10).size == 0


def test_absolute_depends_on_no_other_mask():
    areas = np.random.default_rng(0).integers(0, 10**6 + 1, 300)
    together = absolute_granularity(areas, 10**6)
    alone = [absolute_granularity([area], 10**6)[0] for area in areas]
    assert np.array_equal(together, alone)
    assert (np.diff(together[np.argsort(areas)]) >= 0).all()
    # The same share of another photo is the same value.
    assert np.allclose(together, absolute_granularity(areas * 4, 4 * 10**6), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("areas", "photo"), [([11], 10), ([-1], 10), ([1], 0), ([np.inf], 10)])
def test_absolute_refuses_areas_that_cannot_be(areas, photo):
    with pytest.raises(ValueError, match="areas must"):
        absolute_granularity(areas, photo)


def test_trees_take_the_options():
    areas, parent = [1000, 900, 500, 400], [-1, 0, -1, 2]
    values = granularity_of_trees(areas, parent, published=True)
    assert np.allclose(values, [1, 0.1, 1, 0.1])
    capped = granularity_of_trees(areas, parent, 0.25)
    assert np.allclose(capped[:2], granularity([1000, 900], 0.25))
