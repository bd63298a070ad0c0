"""Normalised cuts find objects; parity with the published code is in test_golden.py."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.conquer import grid_edges
from divide_and_conquer.divide.build import DIVIDERS, build_divider
from divide_and_conquer.divide.ncut import NormalizedCuts, maskcut
from divide_and_conquer.superpixels import RegionGraph
from unsam.config import get_cfg
from unsam.errors import ConfigError


def scene(side=24):
    """Two squares of their own feature on a background."""
    rng = np.random.default_rng(0)
    kinds = np.zeros((side, side), int)
    kinds[4:12, 4:12] = 1
    kinds[15:20, 14:20] = 2
    features = np.eye(3)[kinds] + 0.05 * rng.standard_normal((side, side, 3))
    return kinds, features.reshape(-1, 3)


def test_objects_are_found_one_by_one():
    kinds, features = scene()
    side = len(kinds)
    corners = np.array([0, side - 1, side * (side - 1), side * side - 1])
    found = maskcut(features, grid_edges(side, side), corners, tau=0.3, rounds=3)
    masks = [set(np.flatnonzero(mask)) for mask in found if mask.any()]
    assert set(np.flatnonzero(kinds == 1)) in masks
    assert set(np.flatnonzero(kinds == 2)) in masks
    assert (found.sum(axis=0) <= 1).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_regions(count):
    edges = grid_edges(1, count)
    found = maskcut(np.ones((count, 2)), edges, np.zeros(4, int), tau=0.2, rounds=2)
    assert found.shape == (2, count)


def test_masks_over_superpixels():
    kinds, _ = scene()
    graph = RegionGraph.from_labels(kinds.astype(np.int32), np.zeros(kinds.shape, np.float32))
    photo = np.zeros((*kinds.shape, 3), np.uint8)
    masks = NormalizedCuts(tau=0.3, max_objects=2)(photo, graph, np.eye(3))
    assert masks.size == kinds.shape
    assert set(masks.source) <= {"divide"}
    assert all((mask == (kinds == kinds[mask][0])).all() for mask in masks.masks())


def test_registry():
    cfg = get_cfg()
    assert isinstance(build_divider(cfg), NormalizedCuts)
    cfg.PSEUDO_MASKS.DIVIDE.NAME = "none"
    assert build_divider(cfg) is None
    with pytest.raises(ConfigError, match="ncut"):
        DIVIDERS.get("ncuts")
