"""Objects by normalised cuts of regions, and the registry of dividers."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.divide.build import DIVIDERS, build_divider
from divide_and_conquer.divide.region_cuts import RegionCuts
from divide_and_conquer.features.build import build_features
from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.regions.region_graph import RegionGraph
from unsam.structures import read_photo


def build(cfg):
    return build_divider(cfg, build_features(cfg))


@pytest.fixture(scope="module")
def divider():
    return build(get_cfg())


def test_objects_are_unions_of_regions(divider):
    kinds = np.zeros((24, 24), np.int32)
    kinds[4:12, 4:12] = 1
    kinds[15:20, 14:20] = 2
    graph = RegionGraph.from_labels(kinds, np.zeros(kinds.shape, np.float32))
    masks = divider.of_regions(graph, np.eye(3))
    assert masks.size == kinds.shape
    assert set(masks.source) == {"divide"}
    assert all((mask == (kinds == kinds[mask][0])).all() for mask in masks.masks())


def test_objects_of_a_photo_are_disjoint_and_of_its_size(divider, data_root):
    photo = read_photo(data_root / "bsds500/images/val/3096.jpg")
    masks = divider(photo)
    assert masks.size == photo.shape[:2]
    assert 1 <= len(masks) <= 3
    common = masks.intersections()
    np.fill_diagonal(common, 0)
    assert common.max() == 0
    # A large photo is worked on at a smaller size; its objects are of the photo's size.
    large = photo.repeat(3, axis=0).repeat(3, axis=1)
    assert divider(large).size == large.shape[:2]


def test_registry():
    cfg = get_cfg()
    assert isinstance(build(cfg), RegionCuts)
    cfg.PSEUDO_MASKS.DIVIDE.NAME = "none"
    assert build(cfg) is None
    with pytest.raises(ConfigError, match="ncut"):
        DIVIDERS.get("ncuts")
