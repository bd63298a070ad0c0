from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from tests.evaluation.synthetic import random_rectangles
from unsam.evaluation.detection_matching import (
    SIZE_RANGES,
    PhotoMatches,
    mask_overlaps,
    match_detections,
)
from unsam.structures import MaskSet


class OnePhoto(COCOeval):
    """pycocotools' matching of one photo whose overlaps are given."""

    def __init__(self, overlaps: np.ndarray, scores: Any, areas: Any, truth_areas: Any, crowd: Any):
        super().__init__(iouType="segm")
        self.params.useCats = 0
        self.params.catIds = [1]
        self.ious = {(1, -1): overlaps}
        self._gts = {
            (1, 1): [
                {"id": n, "area": area, "iscrowd": int(is_crowd), "ignore": int(is_crowd)}
                for n, (area, is_crowd) in enumerate(zip(truth_areas, crowd, strict=True), 1)
            ]
        }
        self._dts = {
            (1, 1): [
                {"id": n, "area": area, "score": score}
                for n, (area, score) in enumerate(zip(areas, scores, strict=True), 1)
            ]
        }

    def outcomes(self, size: str) -> tuple[np.ndarray, int]:
        photo = self.evaluateImg(1, -1, SIZE_RANGES[size], 10**6)
        if photo is None:
            return np.zeros((10, 0), np.uint8), 0
        matched, ignored = photo["dtMatches"] > 0, photo["dtIgnore"].astype(bool)
        codes = np.where(ignored, 0, np.where(matched, 1, 2))
        return codes, int((photo["gtIgnore"] == 0).sum())


def random_case(seed: int) -> tuple[np.ndarray, ...]:
    """Overlaps on a coarse grid (so thresholds are hit and tied), areas at the ends of ranges."""
    rng = np.random.default_rng(seed)
    found, objects = rng.integers(0, 40), rng.integers(0, 12)
    grid = np.concatenate([np.linspace(0.5, 0.95, 10), np.linspace(0, 1, 21), [0.999]])
    edges = np.array([0, 1023, 1024, 1025, 9215, 9216, 9217, 50_000])
    return (
        rng.choice(grid, (found, objects)),
        np.sort(rng.integers(0, 6, found) / 5)[::-1],
        rng.choice(edges, found),
        rng.choice(edges, objects),
        rng.random(objects) < 0.25,
    )


@pytest.mark.parametrize("seed", range(25))
def test_every_outcome_is_that_of_pycocotools(seed: int) -> None:
    case = random_case(seed)
    ours, oracle = match_detections(*case), OnePhoto(*case)
    for place, size in enumerate(SIZE_RANGES):
        outcomes, objects = oracle.outcomes(size)
        np.testing.assert_array_equal(ours.outcomes(place), outcomes, err_msg=size)
        assert ours.num_objects[place] == objects
    best = [column.max() if len(case[1]) else 0.0 for column in case[0].T]
    assert ours.best_iou.tolist() == [
        v for v, crowd in zip(best, case[4], strict=True) if not crowd
    ]


@pytest.mark.parametrize("limit", [0, 1, 7, 20])
def test_a_lower_limit_is_the_beginning_of_a_higher_one(limit: int) -> None:
    overlaps, scores, areas, truth_areas, crowd = random_case(seed=5)
    assert scores.size > 20
    assert crowd.size > 3
    whole = match_detections(overlaps, scores, areas, truth_areas, crowd)
    part = match_detections(overlaps[:limit], scores[:limit], areas[:limit], truth_areas, crowd)
    for place in range(len(SIZE_RANGES)):
        np.testing.assert_array_equal(part.outcomes(place), whole.outcomes(place)[:, :limit])


def test_an_object_at_the_end_of_a_range_counts_in_both() -> None:
    photo = match_detections(np.ones((1, 1)), np.ones(1), np.ones(1), np.array([1024]), [False])
    assert dict(zip(SIZE_RANGES, photo.num_objects.tolist(), strict=True)) == {
        "all": 1, "small": 1, "medium": 1, "large": 0,
    }  # fmt: skip


def test_overlaps_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(4)
    masks, truth = (MaskSet.from_masks(random_rectangles(rng, 60, 90, count)) for count in (20, 8))
    masks = MaskSet.cat([masks, MaskSet.from_masks(np.zeros((1, 60, 90)))])
    crowd = rng.random(8) < 0.5
    expected = coco_mask.iou(masks.rles, truth.rles, crowd.astype(np.uint8).tolist())
    np.testing.assert_array_equal(mask_overlaps(masks, truth, crowd), expected)


def test_scores_come_back_bit_for_bit() -> None:
    for dtype in (np.float32, np.float64):
        scores = np.sort(np.random.default_rng(0).random(9).astype(dtype))[::-1]
        photo = match_detections(np.zeros((9, 1)), scores, np.ones(9), np.ones(1), [False])
        back: PhotoMatches = pickle.loads(pickle.dumps(photo))
        assert back.scores.dtype == dtype
        assert back.scores.tobytes() == scores.tobytes()


def test_bad_input_is_one_line() -> None:
    with pytest.raises(ValueError, match="scores must descend"):
        match_detections(np.zeros((2, 0)), np.array([0.1, 0.2]), np.ones(2), np.ones(0), [])
    with pytest.raises(ValueError, match=r"overlaps \(2, 1\) of 3 and 1 masks"):
        match_detections(np.zeros((2, 1)), np.ones(3), np.ones(3), np.ones(1), [False])
