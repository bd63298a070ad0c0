"""Divide masks and the clusters of patches in them: nesting, copies, and the published defects."""

from __future__ import annotations

import numpy as np
import pytest

import divide_and_conquer.instance_hierarchy as module
from divide_and_conquer.features.classical import ClassicalFeatures
from divide_and_conquer.features.pooled_grid import PooledGrid
from divide_and_conquer.instance_hierarchy import InstanceHierarchy
from divide_and_conquer.pipeline import build_masker
from divide_and_conquer.refine.build import RefineReport
from unsam.config import get_cfg, load_preset
from unsam.errors import ConfigError
from unsam.structures import MaskSet, read_photo

THETAS = (0.9, 0.8, 0.7, 0.6, 0.5)


class FixedDivider:
    """Gives the same objects for any photo."""

    def __init__(self, masks):
        self.masks = masks

    def __call__(self, photo):
        return self.masks


class Recorder:
    """Passes crops on, and remembers them and how many came at once."""

    def __init__(self, features):
        self.features = features
        self.crops = []
        self.batches = []

    def __call__(self, photo):
        return self.batch([photo])[0]

    def batch(self, photos):
        self.crops += [np.array(photo) for photo in photos]
        self.batches.append(len(photos))
        return self.features.batch(photos)


@pytest.fixture(scope="module")
def photo(data_root):
    return read_photo(data_root / "bsds500/images/val/3096.jpg")


@pytest.fixture(scope="module")
def features():
    return PooledGrid(ClassicalFeatures(color_bins=8, texture_bins=2, texture_weight=0.0), 24)


def boxes(size, *corners):
    masks = np.zeros((len(corners), *size), bool)
    for mask, (y0, x0, y1, x1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return MaskSet.from_masks(masks, source="divide", score=np.linspace(0.9, 0.5, len(corners)))


@pytest.fixture(scope="module")
def objects(photo):
    return boxes(
        photo.shape[:2], (40, 60, 240, 400), (100, 150, 200, 300), (5, 5, 60, 50), (0, 0, 300, 460)
    )


def build(features, masks, **settings):
    values = dict(
        divider=FixedDivider(masks),
        features=features,
        refiner=None,
        relation="all",
        instance_area_share=0.05,
        instance_containment=0.8,
        thresholds=THETAS,
        min_patches=4,
        min_coverage=0.9,
        nms_iou=0.9,
        max_masks=1000,
        min_area_share=0.0,
        whole_image=False,
        published=False,
    )
    return InstanceHierarchy(**{**values, **settings})


def nothing(photo):
    return MaskSet.empty(photo.shape[:2])


def run(hierarchy, photo, given=None):
    return hierarchy(photo, nothing(photo) if given is None else given)[0]


@pytest.mark.parametrize("relation", ["all", "containment"])
def test_clusters_lie_in_an_object_and_copies_are_gone(photo, features, objects, relation):
    masks = run(build(features, objects, relation=relation), photo)
    clusters = masks.filter(masks.source == "conquer")
    assert len(clusters) > 5
    assert (clusters.containment(objects).max(axis=1) > 0.9).all()
    overlap = masks.iou()
    np.fill_diagonal(overlap, 0)
    assert overlap.max() <= 0.9
    kept = masks.filter(masks.source == "divide")
    assert len(kept) == len(objects)


def test_instances_are_taken_in_chunks(photo, features, objects, monkeypatch):
    recorder = Recorder(features)
    whole = run(build(recorder, objects), photo)
    assert recorder.batches == [4]
    monkeypatch.setattr(module, "INSTANCES_AT_ONCE", 3)
    assert run(build(recorder, objects), photo) == whole
    assert recorder.batches == [4, 3, 1]


def test_crops_are_the_boxes_of_the_objects(photo, features, objects):
    recorder = Recorder(features)
    run(build(recorder, objects), photo)
    np.testing.assert_array_equal(recorder.crops[0], photo[40:240, 60:400])


def test_published_crops_are_bgr_without_the_last_row_and_column(photo, features, objects):
    recorder = Recorder(features)
    run(build(recorder, objects, published=True), photo)
    np.testing.assert_array_equal(recorder.crops[0], photo[40:239, 60:399, ::-1])


def test_published_masks_form_one_flat_group_per_object(photo, features, objects):
    masks = run(build(features, objects, published=True), photo)
    roots = np.flatnonzero(masks.parent < 0)
    assert (masks.source[roots] == "divide").all()
    assert len(roots) == len(objects)
    assert (masks.parent[masks.parent >= 0] >= 0).all()
    inner = np.flatnonzero(masks.parent >= 0)
    assert np.isin(masks.parent[inner], roots).all()
    # The large box holds the others, so copies of a cluster stay in several groups.
    overlap = masks.iou()
    np.fill_diagonal(overlap, 0)
    assert overlap.max() > 0.9


def test_a_thin_object_keeps_its_place_in_published_mode(photo, features):
    thin = boxes(photo.shape[:2], (10, 10, 11, 90), (40, 60, 240, 400))
    masks = run(build(features, thin, published=True), photo)
    assert masks.iou(thin).max(axis=0).tolist() == [1, 1]


@pytest.mark.parametrize("relation", ["all", "containment"])
def test_a_thin_object_is_lost_in_published_mode_with_containment_alone(features, relation):
    small = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    thin = boxes((8, 10), (0, 2, 8, 3))
    masks = run(build(features, thin, published=True, relation=relation), small)
    assert len(masks) == (1 if relation == "all" else 0)
    assert len(run(build(features, thin, relation=relation), small)) >= 1


@pytest.mark.parametrize("published", [False, True])
def test_objects_too_small_for_an_instance_go_also_where_there_is_none(photo, features, published):
    small = boxes(photo.shape[:2], (5, 5, 30, 30), (50, 50, 60, 70))
    hierarchy = build(features, small, relation="containment", published=published)
    assert len(run(hierarchy, photo)) == 0


@pytest.mark.parametrize("relation", ["all", "containment"])
@pytest.mark.parametrize("score", [0.0, 1.0])
def test_what_people_drew_stays(photo, features, objects, relation, score):
    """Small or alone, or a copy of a better scored or larger object: no human mask is lost."""
    human = boxes(photo.shape[:2], (41, 61, 239, 399), (0, 470, 8, 480), (101, 151, 199, 299))
    human = human.replace(source="human", score=np.full(3, score))
    hierarchy = build(features, objects, relation=relation, nms_iou=0.8)
    masks = run(hierarchy, photo, human)
    kept = masks.filter(masks.source == "human")
    assert len(kept) == 3
    assert kept.iou(human).max(axis=0).tolist() == [1, 1, 1]
    overlap = masks.iou()
    np.fill_diagonal(overlap, 0)
    assert overlap.max() <= 0.8
    # Exact copies are no more than a threshold of 1, but no human mask comes twice.
    loose = run(build(features, objects, relation="all", nms_iou=1.0), photo, human)
    assert (loose.source == "human").sum() == 3


def test_crops_take_no_memory(photo, features, objects):
    for published in (False, True):
        hierarchy = build(features, objects, published=published)
        assert np.shares_memory(hierarchy._crop(photo, (3, 4, 50, 60)), photo)


def test_human_masks_join_the_objects(photo, features, objects):
    human = boxes(photo.shape[:2], (30, 30, 290, 450)).replace(source=np.array(["human"]))
    masks = run(build(features, objects, relation="containment"), photo, human)
    place = np.flatnonzero(masks.source == "human")
    assert len(place) == 1
    assert masks.filter(place).iou(human)[0, 0] == 1
    in_human = masks.containment(human)[:, 0] > 0.9
    assert (in_human & (masks.source == "conquer")).sum() >= 3


def test_no_threshold_gives_the_objects_alone(photo, features, objects):
    recorder = Recorder(features)
    masks = run(build(recorder, objects, thresholds=()), photo)
    assert set(masks.source) == {"divide"}
    assert sum(recorder.batches) == 0


def test_no_object_gives_no_mask(photo, features):
    masks = run(build(features, nothing(photo)), photo)
    assert len(masks) == 0
    whole = run(build(features, nothing(photo), whole_image=True), photo)
    assert whole.areas[0] == photo.shape[0] * photo.shape[1]
    assert len(whole) > 5


class Shrinker:
    """Refiner that cuts a mask down to its upper half, and counts."""

    supervised = True

    def __call__(self, photo, masks):
        upper = np.zeros((1, *photo.shape[:2]), bool)
        upper[:, : photo.shape[0] // 2] = True
        halves = np.array([mask & upper[0] for mask in masks.masks()]).reshape(-1, *photo.shape[:2])
        fields = {name: getattr(masks, name) for name in ("score", "granularity", "source")}
        return MaskSet.from_masks(halves, **fields), RefineReport(refined=len(masks))


def test_objects_are_refined_before_they_are_conquered(photo, features, objects):
    hierarchy = build(features, objects, refiner=Shrinker())
    masks, report = hierarchy(photo, nothing(photo))
    half = photo.shape[0] // 2
    assert masks.boxes[:, 3].max() <= half
    assert report.refined >= len(objects)
    assert hierarchy.supervised


def test_the_classical_preset_on_a_real_photo(photo):
    masks = build_masker(load_preset("unsam_classical"))(photo)
    assert len(masks) > 20
    child = np.flatnonzero(masks.parent >= 0)
    assert masks.containment()[child, masks.parent[child]].min() >= 0.9
    assert masks.granularity.max() == 1
    assert masks.granularity.min() >= 0.1


def test_wrong_relation_is_named():
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.HIERARCHY = "instances"
    cfg.PSEUDO_MASKS.INSTANCES.RELATION = "some"
    with pytest.raises(ConfigError, match=r"INSTANCES\.RELATION"):
        build_masker(cfg)
