from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.synthetic import made_up_dataset
from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation import AverageRecallEvaluator
from unsam.structures import MaskSet


def halves(size: int = 40) -> MaskSet:
    labels = np.zeros((size, size), int)
    labels[:, size // 2 :] = 1
    return MaskSet.from_label_map(labels)


def record(image_id: int = 1, masks: MaskSet | None = None, **fields: int) -> ImageRecord:
    masks = halves() if masks is None else masks
    rows = [row | fields for row in masks.to_coco(image_id)]
    return ImageRecord(image_id, f"/{image_id}.jpg", *masks.size, rows)


def test_the_truth_itself_scores_one() -> None:
    evaluator = AverageRecallEvaluator([record()])
    evaluator.process([{"image_id": 1}], [halves()])
    metrics = evaluator.evaluate()
    assert metrics["AR@1"] == 0.5
    for name in ("AR@10", "AR@1000", "AP", "AP50", "AP75", "ARs@1000", "mean_best_iou"):
        assert metrics[name] == 1.0, name
    assert np.isnan(metrics["ARl@1000"])


def test_photos_without_a_result_count() -> None:
    evaluator = AverageRecallEvaluator([record(1), record(2)])
    evaluator.process([{"image_id": 1}], [halves()])
    metrics = evaluator.evaluate()
    assert metrics["AR@1000"] == 0.5
    assert metrics["mean_best_iou"] == 0.5
    assert metrics["photos"] == 2


def test_one_mask_may_serve_several_truths_by_best_overlap_only() -> None:
    twice = MaskSet.cat([halves(), halves()])
    evaluator = AverageRecallEvaluator([record(1, twice)])
    evaluator.process([{"image_id": 1}], [halves()])
    metrics = evaluator.evaluate()
    assert metrics["AR@1000"] == 0.5
    assert metrics["AR@1000_best_overlap"] == 1.0


def test_the_best_scores_are_kept() -> None:
    masks = MaskSet.cat([halves(), MaskSet.from_label_map(np.zeros((40, 40), int))])
    evaluator = AverageRecallEvaluator([record()], max_detections=(1, 2))
    evaluator.process([{"image_id": 1}], [masks.replace(score=[0.2, 0.3, 0.9])])
    metrics = evaluator.evaluate()
    assert metrics["AR@2"] == 0.5
    assert metrics["masks_per_photo"] == 2


def test_sizes_of_the_truth_come_from_its_area_field() -> None:
    evaluator = AverageRecallEvaluator([record(area=100_000)])
    evaluator.process([{"image_id": 1}], [halves()])
    metrics = evaluator.evaluate()
    assert metrics["ARl@1000"] == 1.0
    assert np.isnan(metrics["ARs@1000"])


def test_crowd_regions_are_neither_found_nor_false() -> None:
    everything = MaskSet.from_label_map(np.zeros((40, 40), int)).to_coco(1)[0] | {"iscrowd": 1}
    base = record()
    rows = [*base.load_annotations()[:1], everything]
    with_crowd = ImageRecord(1, "/1.jpg", 40, 40, rows)
    evaluator = AverageRecallEvaluator([with_crowd])
    evaluator.process([{"image_id": 1}], [halves()])
    metrics = evaluator.evaluate()
    assert metrics["AR@1000"] == 1.0
    # The right half matches nothing but lies in the crowd: not a false detection.
    assert metrics["AP"] == 1.0
    assert metrics["objects"] == 1


def test_reset_forgets() -> None:
    evaluator = AverageRecallEvaluator([record()])
    evaluator.process([{"image_id": 1}], [halves()])
    evaluator.reset()
    assert evaluator.evaluate()["AR@1000"] == 0.0


def test_a_photo_seen_twice_counts_once() -> None:
    records, results = made_up_dataset(4)
    samples = [{"image_id": item.image_id} for item in records]
    masks = [results[item.image_id] for item in records]
    once, padded = AverageRecallEvaluator(records), AverageRecallEvaluator(records)
    once.process(samples, masks)
    padded.process(samples[::-1] + samples[:2], masks[::-1] + masks[:2])
    np.testing.assert_equal(padded.evaluate(), once.evaluate())


def test_no_mask_is_a_result_too() -> None:
    evaluator = AverageRecallEvaluator([record()])
    evaluator.process([{"image_id": 1}], [MaskSet.empty((40, 40))])
    assert evaluator.evaluate()["AR@1000"] == 0.0


def test_bad_input_is_one_line() -> None:
    evaluator = AverageRecallEvaluator([record()])
    with pytest.raises(DataError, match=r"photo 5 .* not in the dataset"):
        evaluator.process([{"image_id": 5}], [halves()])
    with pytest.raises(DataError, match=r"masks of size \(20, 20\), photo of \(40, 40\)"):
        evaluator.process([{"image_id": 1}], [halves(20)])
    with pytest.raises(DataError, match="same image id"):
        AverageRecallEvaluator([record(), record()])
    with pytest.raises(DataError, match="no photo"):
        AverageRecallEvaluator([])
    with pytest.raises(ValueError, match="positive numbers"):
        AverageRecallEvaluator([record()], max_detections=(0, 10))
    with pytest.raises(DataError, match="not one annotation"):
        AverageRecallEvaluator([record(1, MaskSet.empty((4, 4)))]).evaluate()
    with pytest.raises(DataError, match="nothing but crowd"):
        AverageRecallEvaluator([record(iscrowd=1)]).evaluate()
