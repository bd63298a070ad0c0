"""A refined mask is taken only if it is near the original and not too large."""

from __future__ import annotations

import json

import numpy as np
import pytest

from divide_and_conquer.refine.acceptance import Acceptance, RefineReport
from unsam.errors import ConfigError
from unsam.structures import MaskSet

SIZE = (20, 30)


def boxes(*corners):
    dense = np.zeros((len(corners), *SIZE), bool)
    for mask, (left, top, right, bottom) in zip(dense, corners, strict=True):
        mask[top:bottom, left:right] = True
    return MaskSet.from_masks(dense)


def runs_of(masks):
    return [masks.runs_of(index) for index in range(len(masks))]


def test_iou_decides():
    masks = boxes((0, 0, 10, 10), (0, 0, 10, 10), (0, 0, 10, 10))
    # IoU 0.8, exactly 0.5, and just below.
    moved = boxes((0, 0, 8, 10), (0, 0, 10, 5), (0, 0, 7, 7))
    taken, report = Acceptance(0.5, 0.9).apply(masks, runs_of(moved))
    assert report == RefineReport(refined=2, moved_too_far=1)
    assert np.array_equal(taken.masks(), np.stack([moved.mask(0), moved.mask(1), masks.mask(2)]))


def test_the_iou_is_that_of_the_masks():
    rng = np.random.default_rng(0)
    masks = MaskSet.from_masks(rng.random((30, *SIZE)) > 0.4)
    moved = MaskSet.from_masks(masks.masks() ^ (rng.random((30, *SIZE)) > 0.75))
    iou = np.diag(masks.iou(moved))
    for threshold in np.quantile(iou, [0.2, 0.5, 0.8]):
        _, report = Acceptance(float(threshold), 1.0).apply(masks, runs_of(moved))
        assert report.refined == (iou >= threshold).sum()


def test_large_masks_and_failures_keep_the_original():
    masks = boxes((0, 0, 28, 19), (0, 0, 5, 5), (5, 5, 9, 9), (0, 0, 0, 0))
    candidates = [boxes((0, 0, 30, 20)).runs_of(0), None, np.zeros((0, 2), np.int32), None]
    kept, report = Acceptance(0.5, 0.9).apply(masks, candidates)
    assert kept == masks
    assert report == RefineReport(moved_too_far=1, failed=3)


def test_reports_add_up_and_can_be_written():
    total = sum([RefineReport(1, 2, 3), RefineReport(refined=4)], RefineReport())
    assert json.loads(json.dumps(total.to_dict())) == {
        "refined": 5,
        "moved_too_far": 2,
        "failed": 3,
    }


@pytest.mark.parametrize(("iou", "share"), [(-0.1, 0.9), (1.1, 0.9), (0.5, 0.0), (0.5, 1.1)])
def test_values_out_of_range_are_the_users(iou, share):
    with pytest.raises(ConfigError, match=r"PSEUDO_MASKS\.REFINE"):
        Acceptance(iou, share)
