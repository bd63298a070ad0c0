"""The published suppression looks at the next four masks by area, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from divide_and_conquer.windowed_nms import windowed_nms
from unsam.structures import MaskSet


def on_arrays(dense: np.ndarray, threshold: float) -> list[int]:
    """The rule on full arrays, written as it is stated."""
    order = np.argsort(-dense.sum(axis=(1, 2)), kind="stable").tolist()
    gone = set()
    for place, one in enumerate(order):
        for other in order[place + 1 : place + 5]:
            union = (dense[one] | dense[other]).sum()
            iou = (dense[one] & dense[other]).sum() / union if union else 0
            if one not in gone and iou > threshold:
                gone.add(other)
    return [one for one in order if one not in gone]


def test_of_six_copies_the_first_and_the_last_stay():
    copies = MaskSet.from_masks(np.ones((6, 4, 4), bool))
    assert windowed_nms(copies, 0.9).tolist() == [0, 5]
    assert copies.nms(0.9, order="area").tolist() == [0]


def test_a_mask_at_the_threshold_stays():
    pair = np.zeros((2, 1, 10), bool)
    pair[0], pair[1, :, :8] = True, True
    assert windowed_nms(MaskSet.from_masks(pair), 0.8).tolist() == [0, 1]
    assert windowed_nms(MaskSet.from_masks(pair), 0.79).tolist() == [0]


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_rule_on_arrays(seed):
    rng = np.random.default_rng(seed)
    base = rng.random((4, 12, 15)) < 0.5
    dense = base[rng.integers(0, 4, 25)] ^ (rng.random((25, 12, 15)) < 0.03)
    dense[0] = False
    for threshold in (0.5, 0.8, 0.9):
        assert windowed_nms(MaskSet.from_masks(dense), threshold).tolist() == on_arrays(
            dense, threshold
        )


def test_no_masks():
    assert windowed_nms(MaskSet.empty((5, 5)), 0.9).size == 0
