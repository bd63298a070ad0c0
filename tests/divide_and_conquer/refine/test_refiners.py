"""What every refiner does: exact masks stay, disturbed ones come nearer, nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.refine.acceptance import Acceptance, RefineReport
from divide_and_conquer.refine.build import build_refiner
from divide_and_conquer.refine.crops import CropRefiner, Window
from tests.divide_and_conquer.refine.conftest import blocky, dilated
from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.structures import MaskSet

NAMES = ["superpixel", "guided", "crf"]


def refiner(name, **overrides):
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.REFINE.NAME = name
    cfg.PSEUDO_MASKS.REFINE.CRF.INPUT_SIZE = 240
    for key, value in overrides.items():
        cfg.PSEUDO_MASKS.REFINE[key] = value
    return build_refiner(cfg)


def same(first, second):
    return np.diag(first.iou(second))


@pytest.mark.parametrize("name", NAMES)
def test_exact_masks_stay_and_disturbed_ones_recover(name, shapes):
    photo, masks = shapes
    refine = refiner(name)
    kept, report = refine(photo, masks)
    assert report == RefineReport(refined=4)
    assert same(kept, masks).min() > 0.97
    disturbed = blocky(masks)
    recovered, _ = refine(photo, disturbed)
    assert (same(recovered, masks) >= same(disturbed, masks)).all()
    assert same(recovered, masks).mean() > same(disturbed, masks).mean() + 0.02


@pytest.mark.parametrize("name", NAMES)
def test_masks_by_people_come_nearer_on_average(name, human_masks):
    # The CRF takes a tenth of a second for each mask, so it gets fewer.
    pairs, limit = (human_masks[::3], 4) if name == "crf" else (human_masks, 10)
    refine = refiner(name, CRF=get_cfg().PSEUDO_MASKS.REFINE.CRF)
    before, after = [], []
    for photo, masks in pairs:
        truth = masks.filter(np.arange(min(limit, len(masks))))
        three = MaskSet.cat([truth, blocky(truth), dilated(truth)])
        refined, _ = refine(photo, three)
        before.append(three.iou(truth)[np.arange(len(three)), np.tile(np.arange(len(truth)), 3)])
        after.append(refined.iou(truth)[np.arange(len(three)), np.tile(np.arange(len(truth)), 3)])
    stayed = np.concatenate([iou[: len(iou) // 3] for iou in after])
    moved_before, moved_after = (
        np.concatenate([iou[len(iou) // 3 :] for iou in rows]) for rows in (before, after)
    )
    assert moved_after.mean() > moved_before.mean()
    # People draw beside the edge too, so their masks are not left exactly as they are.
    assert stayed.mean() > 0.85


@pytest.mark.parametrize("name", NAMES)
def test_number_order_and_fields_stay(name, shapes):
    photo, masks = shapes
    masks = masks.replace(
        score=[0.9, 0.1, 0.5, 0.7],
        granularity=[1.0, 0.2, 0.3, 0.4],
        parent=[-1, 0, 0, 1],
        source=["divide", "conquer", "human", "conquer"],
    )
    out, report = refiner(name)(photo, blocky(masks).replace(**masks._fields()))
    assert sum(report.to_dict().values()) == len(out) == 4
    assert (same(out, masks) > 0.7).all()
    for field, values in masks._fields().items():
        assert np.array_equal(getattr(out, field), values), field


@pytest.mark.parametrize("name", NAMES)
def test_masks_at_the_limits(name, shapes):
    photo, _ = shapes
    height, width = photo.shape[:2]
    dense = np.zeros((8, height, width), bool)
    dense[1, 40, 50] = True
    dense[2, 0, 0] = dense[3, -1, -1] = True
    dense[4] = True
    dense[5, :, :60] = True
    dense[6, 100, :] = True
    dense[7, :, 10] = True
    masks = MaskSet.from_masks(dense)
    out, report = refiner(name)(photo, masks)
    assert len(out) == 8
    assert report.failed >= 1
    assert sum(report.to_dict().values()) == 8
    assert out.areas[0] == 0
    assert (out.areas[1:] > 0).all()
    assert out.filter([4]) == masks.filter([4])
    assert (same(out, masks)[1:] >= 0.5).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (3, 2)])
def test_tiny_photos(name, size):
    photo = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    masks = MaskSet.from_masks(np.ones((1, *size)))
    assert refiner(name)(photo, masks)[0] == masks
    empty = MaskSet.empty(size)
    assert refiner(name)(photo, empty) == (empty, RefineReport())


@pytest.mark.parametrize("name", NAMES)
def test_one_mask_alone_and_among_others_is_the_same(name, shapes):
    photo, masks = shapes
    disturbed = blocky(masks)
    refine = refiner(name)
    together, _ = refine(photo, disturbed)
    for index in range(len(masks)):
        assert refine(photo, disturbed.filter([index]))[0] == together.filter([index])


@pytest.mark.parametrize("name", NAMES)
def test_limits_come_from_the_config(name, shapes):
    photo, masks = shapes
    disturbed = blocky(masks)
    out, report = refiner(name, MIN_IOU=1.0)(photo, disturbed)
    assert out == disturbed
    assert report.moved_too_far == 4
    out, report = refiner(name, MAX_AREA_SHARE=0.001)(photo, disturbed)
    assert out == disturbed


class Touchy(CropRefiner):
    """Grows masks by one column, but does not stand masks of 7 pixels."""

    def window(self, box, size):
        return Window(0, 0, size[1], size[0])

    def refine(self, photo, masks):
        if (masks.sum(axis=(1, 2)) == 7).any():
            raise RuntimeError("seven")
        return masks | np.roll(masks, 1, axis=2)


def test_one_failure_keeps_that_mask_and_refines_the_rest(caplog):
    photo = np.zeros((12, 12, 3), np.uint8)
    dense = np.zeros((5, 12, 12), bool)
    for index, rows in enumerate([5, 7, 3, 7, 6]):
        dense[index, :rows, 4:5] = True
    masks = MaskSet.from_masks(dense)
    out, report = Touchy(Acceptance(0.5, 0.9))(photo, masks)
    assert report == RefineReport(refined=3, failed=2)
    assert out.areas.tolist() == [10, 7, 6, 7, 12]
    assert "mask 1 keeps its shape" in caplog.text


def test_superpixels_that_cannot_be_made_keep_all_masks(shapes, monkeypatch):
    def fail(*arguments, **settings):
        raise MemoryError("too large")

    monkeypatch.setattr("divide_and_conquer.refine.superpixel.felzenszwalb_regions", fail)
    photo, masks = shapes
    assert refiner("superpixel")(photo, masks) == (masks, RefineReport(failed=4))


def test_superpixel_masks_partition_as_the_masks_did(shapes):
    photo, _ = shapes
    left = np.zeros(photo.shape[:2], bool)
    left[:, :71] = True
    halves = MaskSet.from_masks(np.stack([left, ~left]))
    out, _ = refiner("superpixel", MIN_IOU=0.0, MAX_AREA_SHARE=1.0)(photo, halves)
    # A region is in the half that holds more of it, thus in one of the two.
    assert out.intersections()[0, 1] == 0
    assert out.areas.sum() >= 0.99 * left.size


def test_superpixels_in_tiles_lose_no_pixel(shapes, monkeypatch):
    photo, masks = shapes
    whole, _ = refiner("superpixel")(photo, blocky(masks))
    monkeypatch.setattr("divide_and_conquer.refine.superpixel._TILE", 70)
    refine = refiner("superpixel")
    regions = refine._regions(photo)
    assert np.array_equal(np.unique(regions), np.arange(regions.max() + 1))
    assert same(refine(photo, blocky(masks))[0], whole).min() > 0.9


def test_windows_return_masks_to_their_place(shapes):
    _, masks = shapes
    height = masks.size[0]
    for index, box in enumerate(masks.boxes):
        for window in (Window.around(box, 3, masks.size), Window.around(box, 7, masks.size, 8)):
            crop = window.of_mask(masks, index)
            assert crop.shape == (window.bottom - window.top, window.right - window.left)
            assert np.array_equal(window.to_runs(crop, height), masks.runs_of(index))


@pytest.mark.parametrize("name", NAMES)
def test_another_size_is_a_programming_error(name, shapes):
    photo, masks = shapes
    with pytest.raises(ValueError, match="do not fit"):
        refiner(name)(photo[:-1], masks)


def test_names():
    assert refiner("none") is None
    for name in NAMES:
        assert refiner(name).supervised is False
    with pytest.raises(ConfigError, match=r"REFINE\.NAME.*did you mean 'guided'"):
        refiner("guide")
    with pytest.raises(ConfigError, match=r"SUPERPIXEL\.SCALE"):
        refiner("superpixel", SUPERPIXEL=_scale(0.0))


def _scale(value):
    node = get_cfg().PSEUDO_MASKS.REFINE.SUPERPIXEL
    node.SCALE = value
    return node
