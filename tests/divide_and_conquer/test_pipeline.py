"""One photo to a set of nested masks."""

from __future__ import annotations

import json
import time

import cv2
import numpy as np
import pytest

from divide_and_conquer.pipeline import PseudoMasker
from unsam.config import get_cfg
from unsam.data import get_dataset
from unsam.errors import ConfigError
from unsam.structures import MaskSet, read_photo


@pytest.fixture(scope="module")
def masker():
    return PseudoMasker.from_config(get_cfg())


@pytest.fixture(scope="module")
def photo(data_root):
    return read_photo(sorted((data_root / "bsds500/images/val").iterdir())[3])


@pytest.fixture(scope="module")
def masks(masker, photo):
    return masker(photo)


def synthetic(size=96):
    image = np.full((size, size, 3), (40, 90, 40), np.uint8)
    image[20:70, 20:70] = (200, 60, 50)
    image[30:45, 30:45] = (230, 220, 90)
    return image


def test_fields_of_a_real_photo(masks, photo):
    assert masks.size == photo.shape[:2]
    assert 50 < len(masks) <= 1000
    assert set(masks.source) == {"divide", "conquer"}
    assert (np.diff(masks.areas) <= 0).all()
    assert masks.score.min() > 0
    assert masks.score.max() <= 1
    assert masks.areas[0] == photo.shape[0] * photo.shape[1]
    assert masks.granularity[0] == 1
    assert masks.granularity.min() < 0.15


def test_parts_lie_in_their_parents(masks):
    child = np.flatnonzero(masks.parent >= 0)
    assert len(child) == len(masks) - 1
    parent = masks.parent[child]
    assert masks.containment()[child, parent].min() >= 0.9
    assert (masks.areas[parent] >= masks.areas[child]).all()
    assert (masks.granularity[parent] >= masks.granularity[child]).all()


def test_no_near_copies(masks):
    iou = masks.iou()
    np.fill_diagonal(iou, 0)
    assert iou.max() <= get_cfg().PSEUDO_MASKS.NMS_IOU


def test_same_photo_same_masks(masks, photo):
    assert PseudoMasker.from_config(get_cfg())(photo) == masks


def test_objects_of_a_drawing_are_found_exactly(masker):
    image = synthetic()
    masks = masker(image)
    for color in ((200, 60, 50), (230, 220, 90)):
        inside = (image == color).all(axis=2)
        if color == (200, 60, 50):
            inside[30:45, 30:45] = True
        overlap = masks.iou(MaskSet.from_masks(inside[None]))
        assert overlap.max() > 0.9


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 300), (7, 5), (3, 2000)])
def test_tiny_and_thin_photos(masker, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    masks = masker(image)
    assert masks.size == size
    assert masks.areas[0] == size[0] * size[1]
    assert masks.areas.min() >= 1


@pytest.mark.parametrize("value", [0, 127, 255])
def test_a_constant_photo_is_one_mask(masker, value):
    masks = masker(np.full((60, 80, 3), value, np.uint8))
    assert len(masks) == 1
    assert masks.areas.tolist() == [4800]
    assert masks.granularity.tolist() == [1]


def test_a_huge_photo_gives_masks_at_full_size(masker):
    """12,000 x 9,000 pixels: worked on at WORK_SIZE, so memory and time stay bounded."""
    huge = cv2.resize(synthetic(), (12000, 9000), interpolation=cv2.INTER_NEAREST)
    start = time.process_time()
    masks = masker(huge)
    assert time.process_time() - start < 20
    assert masks.size == (9000, 12000)
    inside = np.zeros((9000, 12000), bool)
    inside[9000 * 20 // 96 : 9000 * 70 // 96, 12000 * 20 // 96 : 12000 * 70 // 96] = True
    assert masks.iou(MaskSet.from_masks(inside[None])).max() > 0.9


def test_limits_from_the_config(photo):
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.MAX_MASKS = 20
    cfg.PSEUDO_MASKS.MIN_AREA_SHARE = 0.01
    masks = PseudoMasker.from_config(cfg)(photo)
    assert len(masks) == 20
    assert masks.areas.min() >= 0.01 * photo.shape[0] * photo.shape[1] - 1


def test_without_the_whole_image_objects_are_roots(photo):
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.WHOLE_IMAGE = False
    cfg.PSEUDO_MASKS.CONQUER.THRESHOLDS = (0.9, 0.5)
    masks = PseudoMasker.from_config(cfg)(photo)
    roots = masks.parent < 0
    assert roots.sum() > 1
    assert (masks.granularity[roots] == 1).all()


def test_merging_by_the_features_themselves(photo):
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.EMBEDDING.NAME = "none"
    assert len(PseudoMasker.from_config(cfg)(photo)) > 50


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        (["PSEUDO_MASKS.EMBEDDING.NAME", "spectra"], "spectral"),
        (["PSEUDO_MASKS.WORK_SIZE", 0], "WORK_SIZE"),
        (["PSEUDO_MASKS.FEATURES.NAME", "dino"], "classical"),
        (["PSEUDO_MASKS.DIVIDE.NAME", "cuts"], "ncut"),
        (["PSEUDO_MASKS.COMPAT", "old"], "published"),
        (["PSEUDO_MASKS.HIERARCHY", "pixels"], "instances"),
        (["PSEUDO_MASKS.GRANULARITY.KIND", "area"], "absolute"),
    ],
)
def test_wrong_settings(keys, match):
    cfg = get_cfg()
    cfg.merge_from_list(keys)
    with pytest.raises(ConfigError, match=match):
        PseudoMasker.from_config(cfg)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_not_a_photo(masker, array):
    with pytest.raises(ValueError, match="uint8"):
        masker(array)


@pytest.mark.parametrize("refiner", ["superpixel", "guided"])
def test_refined_masks_are_no_near_copies(photo, refiner):
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.REFINE.NAME = refiner
    overlap = PseudoMasker.from_config(cfg)(photo).iou()
    np.fill_diagonal(overlap, 0)
    assert overlap.max() <= cfg.PSEUDO_MASKS.NMS_IOU


def test_absolute_granularity_depends_on_the_area_alone(photo):
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.GRANULARITY.KIND = "absolute"
    masks = PseudoMasker.from_config(cfg)(photo)
    share = masks.areas / (photo.shape[0] * photo.shape[1])
    np.testing.assert_allclose(masks.granularity, 0.1 + 0.9 * np.sqrt(share), atol=1e-6)


def test_human_masks_stay_as_they_are(photo, data_root, tmp_path):
    """UnSAMv2+: masks of people join the divide set and displace near copies."""
    records = get_dataset("bsds500_val_distinct")
    record = next(item for item in records if item.file_name.endswith("3096.jpg"))
    human = record.masks().replace(source="human")
    record_json = human.to_sa1b("3096.jpg", 1)
    (tmp_path / "3096.jpg.json").write_text(json.dumps(record_json))
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.DIVIDE.GIVEN_MASKS = str(tmp_path)
    masker = PseudoMasker.from_config(cfg)
    image = read_photo(data_root / "bsds500/images/val/3096.jpg")
    masks = masker(image, name="3096.jpg")
    assert masker.supervised
    ours = masks.source == "human"
    assert ours.sum() == len(human)
    assert masks.filter(ours).iou(human).max(axis=0).min() == 1
    # Masks were reduced to the working size and back, hence the slack.
    others = masks.filter(~ours & (masks.areas < masks.areas[0]))
    assert others.iou(human).max() < 0.95
    assert (masker(image, name="other.jpg").source != "human").all()
