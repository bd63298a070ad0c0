"""Conquer one instance: what comes out lies in it, in both modes; degenerate instances."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from divide_and_conquer.grid_conquer import (
    clusters,
    conquer_instance,
    instance_box,
    protected_nms,
)
from unsam.structures import MaskSet, read_photo

SETTINGS = {
    "thresholds": (0.9, 0.7, 0.5, 0.3, 0.1),
    "min_patches": 4,
    "min_coverage": 0.9,
    "nms_iou": 0.8,
}


def box_mask(size, x0, y0, x1, y1, score=1.0):
    dense = np.zeros((1, *size), bool)
    dense[:, y0:y1, x0:x1] = True
    return MaskSet.from_masks(dense, score=[score], source="divide")


def colour_features(crop, side):
    """Lab colours of a crop, as deviations from its mean, so that cosines differ."""
    small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab - lab.mean(axis=(0, 1))


@pytest.fixture(scope="module")
def case(data_root):
    photo = read_photo(data_root / "demo" / "sa_234337.jpg")
    height, width = photo.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    dense = np.hypot((rows / height - 0.5) / 0.4, (columns / width - 0.45) / 0.42) < 1
    instance = MaskSet.from_masks(dense[None], score=[0.5], source="divide")
    x0, y0, x1, y1 = instance_box(instance)
    return colour_features(photo[y0:y1, x0:x1], 32), instance


@pytest.mark.parametrize("published", [False, True])
def test_parts_lie_in_the_instance(case, published):
    features, instance = case
    parts = conquer_instance(features, instance, **SETTINGS, published=published)
    assert len(parts) > 10
    assert parts.size == instance.size
    assert (parts.containment(instance) > 0.9).all()
    assert (np.diff(parts.areas) <= 0).all()
    assert set(parts.source) == {"conquer"}
    assert (parts.score == 0.5).all()
    x0, y0, x1, y1 = instance_box(instance, published=published)
    assert (parts.boxes[:, :2] >= [x0, y0]).all()
    assert (parts.boxes[:, 2:] <= [x1, y1]).all()


def test_no_near_copies_are_left_unless_as_published(case):
    features, instance = case
    overlap = conquer_instance(features, instance, **SETTINGS).iou()
    assert (overlap - np.eye(len(overlap))).max() <= 0.8
    published = conquer_instance(features, instance, **SETTINGS, published=True).iou()
    assert (published - np.eye(len(published))).max() > 0.8


def test_each_cluster_stands_once(case):
    features, _ = case
    grids, emitted = clusters(features, SETTINGS["thresholds"], 4)
    assert len({grid.tobytes() for grid in grids}) == len(grids)
    assert set(np.concatenate(emitted).tolist()) == set(range(len(grids)))
    assert (grids.sum(axis=(1, 2)) >= 4).all()
    # The clusters of one level do not overlap, and lie in those of the next one or were merged.
    for level in emitted:
        assert grids[level].sum(axis=0).max() == 1


def test_the_same_clusters_in_both_modes(case):
    features, _ = case
    ours, emitted = clusters(features, SETTINGS["thresholds"], 4)
    theirs, as_published = clusters(features, SETTINGS["thresholds"], 4, published=True)
    for level, other in zip(emitted, as_published, strict=True):
        assert {g.tobytes() for g in ours[level]} == {g.tobytes() for g in theirs[other]}


def test_one_cluster_of_all_patches_vanishes_only_as_published():
    instance = box_mask((50, 60), 5, 5, 45, 35, score=0.7)
    features = np.ones((8, 8, 16), np.float32)
    found = conquer_instance(features, instance, **SETTINGS)
    assert found == instance.replace(source="conquer")
    assert len(conquer_instance(features, instance, **SETTINGS, published=True)) == 0


def test_the_box_and_its_published_form():
    instance = box_mask((50, 60), 5, 6, 45, 35)
    assert instance_box(instance) == (5, 6, 45, 35)
    assert instance_box(instance, published=True) == (5, 6, 44, 34)
    assert instance_box(MaskSet.from_masks(np.zeros((1, 9, 9)))) == (0, 0, 0, 0)
    with pytest.raises(ValueError, match="one instance"):
        instance_box(MaskSet.empty((9, 9)))


@pytest.mark.parametrize("corners", [(3, 3, 4, 9), (3, 3, 9, 4), (3, 3, 4, 4)])
def test_instances_one_pixel_thin(corners):
    instance = box_mask((12, 14), *corners)
    features = np.ones((4, 4, 8), np.float32)
    found = conquer_instance(features, instance, **SETTINGS)
    assert np.array_equal(found.runs, instance.runs)
    assert len(conquer_instance(features, instance, **SETTINGS, published=True)) == 0


def test_an_empty_instance_has_no_parts():
    empty = MaskSet.from_masks(np.zeros((1, 9, 9)))
    for published in (False, True):
        found = conquer_instance(np.ones((2, 2, 3)), empty, **SETTINGS, published=published)
        assert len(found) == 0


def test_no_threshold_gives_nothing():
    settings = SETTINGS | {"thresholds": ()}
    instance = box_mask((12, 14), 2, 2, 9, 9)
    for published in (False, True):
        found = conquer_instance(np.ones((4, 4, 3)), instance, **settings, published=published)
        assert len(found) == 0


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 3), (4, 0, 3)])
def test_wrong_features_are_refused(shape):
    with pytest.raises(ValueError, match="features"):
        conquer_instance(np.ones(shape), box_mask((9, 9), 0, 0, 5, 5), **SETTINGS)


@pytest.mark.parametrize("published", [False, True])
def test_protected_nms_drops_copies_of_the_instance(published):
    size = (40, 40)
    instance = box_mask(size, 0, 0, 30, 30)
    inner = MaskSet.cat(
        [
            box_mask(size, 0, 0, 30, 29),
            box_mask(size, 0, 0, 10, 10),
            box_mask(size, 0, 0, 11, 10),
            box_mask(size, 20, 20, 30, 30),
        ]
    )
    kept = protected_nms(instance, inner, nms_iou=0.8, published=published)
    assert kept.boxes.tolist() == [[0, 0, 11, 10], [20, 20, 30, 30]]
    sources = inner.replace(source=np.array(["human", "human", "conquer", "divide"]))
    kept = protected_nms(instance, sources, nms_iou=0.8, published=published)
    surer = [0, 0, 11, 10] if published else [0, 0, 10, 10]
    assert sorted(kept.boxes.tolist()) == [surer, [20, 20, 30, 30]]
    assert (np.diff(kept.areas) <= 0).all()
    none = protected_nms(instance, MaskSet.empty(size), nms_iou=0.8, published=published)
    assert len(none) == 0
