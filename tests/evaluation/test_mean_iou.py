from __future__ import annotations

import pickle
from itertools import permutations

import numpy as np
import pytest

from tests.evaluation.synthetic import made_up_dataset, random_rectangles
from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation.mean_iou import MeanIoUEvaluator
from unsam.structures import MaskSet


def record(masks: MaskSet, image_id: int = 1, categories: list[int] | None = None) -> ImageRecord:
    rows = masks.to_coco(image_id)
    for row, category in zip(rows, categories or [1] * len(rows), strict=True):
        row["category_id"] = category
    return ImageRecord(image_id, f"/{image_id}.jpg", *masks.size, rows)


def measured(records: list[ImageRecord], results: dict[int, MaskSet]) -> dict[str, float]:
    evaluator = MeanIoUEvaluator(records)
    for image_id, masks in results.items():
        evaluator.process([{"image_id": image_id}], [masks])
    return evaluator.evaluate()


@pytest.mark.parametrize("masks", [2, 4, 6])
def test_both_variants_are_what_trying_everything_finds(masks: int) -> None:
    rng = np.random.default_rng(masks)
    truth, found = random_rectangles(rng, 40, 50, 4), random_rectangles(rng, 40, 50, masks)
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in found] for a in truth])
    padded = np.concatenate([iou, np.zeros((4, 4))], axis=1)
    best_sum = max(
        sum(padded[row, column] for row, column in enumerate(chosen))
        for chosen in permutations(range(masks + 4), 4)
    )
    metrics = measured([record(MaskSet.from_masks(truth))], {1: MaskSet.from_masks(found)})
    assert metrics["mIoU_best_overlap"] == pytest.approx(iou.max(axis=1).mean(), abs=1e-12)
    assert metrics["mIoU_hungarian"] == pytest.approx(best_sum / 4, abs=1e-12)


def test_one_mask_serves_two_regions_by_best_overlap_only() -> None:
    mask = MaskSet.from_masks(np.ones((1, 10, 10)))
    metrics = measured([record(MaskSet.cat([mask, mask]))], {1: mask})
    assert metrics["mIoU_best_overlap"] == 1.0
    assert metrics["mIoU_hungarian"] == 0.5
    assert "class_mIoU_hungarian" not in metrics


def test_classes_weigh_the_same_however_many_regions_they_have() -> None:
    labels = np.repeat(np.arange(4), 10)[None].repeat(20, 0)
    truth = MaskSet.from_label_map(labels)
    metrics = measured([record(truth, categories=[7, 7, 7, 3])], {1: truth.filter([0, 1, 2])})
    assert metrics["mIoU_hungarian"] == 0.75
    assert metrics["class_mIoU_hungarian"] == 0.5
    assert metrics["classes"] == 2


def test_photos_without_masks_count_and_crowd_regions_do_not() -> None:
    truth = MaskSet.from_label_map(np.repeat(np.arange(2), 5)[None].repeat(8, 0))
    crowded = record(truth, 2)
    crowded.load_annotations()[0]["iscrowd"] = 1
    metrics = measured([record(truth), crowded, record(MaskSet.empty((8, 10)), 3)], {1: truth})
    assert metrics["regions"] == 3
    assert metrics["mIoU_best_overlap"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("ranks", [2, 3])
def test_shares_of_ranks_add_up_to_the_whole(ranks: int) -> None:
    records, results = made_up_dataset(5)
    merged = {}
    for rank in reversed(range(ranks)):
        share = MeanIoUEvaluator(records)
        for image_id, masks in list(results.items())[rank::ranks]:
            share.process([{"image_id": image_id}], [masks])
        merged |= pickle.loads(pickle.dumps(dict(share.results)))
    measure = MeanIoUEvaluator(records).measure
    assert measure(dict(sorted(merged.items()))) == measured(records, results)


def test_only_the_best_scores_are_taken() -> None:
    truth = MaskSet.from_masks(np.ones((1, 10, 10)))
    corner = np.zeros((1, 10, 10))
    corner[0, :5] = 1
    masks = MaskSet.cat([truth, MaskSet.from_masks(corner)]).replace(score=[0.1, 0.9])
    evaluator = MeanIoUEvaluator([record(truth)], max_masks=1)
    evaluator.process([{"image_id": 1}], [masks])
    assert evaluator.evaluate()["mIoU_best_overlap"] == 0.5


def test_bad_input_is_one_line() -> None:
    empty = record(MaskSet.empty((8, 8)))
    with pytest.raises(DataError, match="not one annotation"):
        MeanIoUEvaluator([empty]).evaluate()
    with pytest.raises(DataError, match=r"masks of size \(4, 4\)"):
        MeanIoUEvaluator([empty]).process([{"image_id": 1}], [MaskSet.empty((4, 4))])
    with pytest.raises(ValueError, match="positive"):
        MeanIoUEvaluator([empty], max_masks=0)
