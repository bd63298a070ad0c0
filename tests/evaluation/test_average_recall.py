from __future__ import annotations

import pickle

import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster

from tests.evaluation.synthetic import made_up_dataset
from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation import AverageRecallEvaluator, BoundaryAPEvaluator
from unsam.structures import MaskSet


def halves(size: int = 40) -> MaskSet:
    labels = np.zeros((size, size), int)
    labels[:, size // 2 :] = 1
    return MaskSet.from_label_map(labels)


def record(image_id: int = 1, masks: MaskSet | None = None, **fields: int) -> ImageRecord:
    masks = halves() if masks is None else masks
    rows = [row | fields for row in masks.to_coco(image_id)]
    return ImageRecord(image_id, f"/{image_id}.jpg", *masks.size, rows)


def metrics_of(evaluator: AverageRecallEvaluator, results: dict[int, MaskSet]) -> dict[str, float]:
    for image_id, masks in results.items():
        evaluator.process([{"image_id": image_id}], [masks])
    return evaluator.evaluate()


def test_the_truth_itself_scores_one() -> None:
    evaluator = AverageRecallEvaluator([record()])
    evaluator.process([{"image_id": 1}], [halves()])
    metrics = evaluator.evaluate()
    assert metrics["AR@1"] == 0.5
    for name in ("AR@10", "AR@1000", "AP", "AP50", "AP75", "ARs@1000", "mean_best_iou"):
        # COCO's precision is below 1 by the spacing that guards its denominator.
        assert metrics[name] == pytest.approx(1.0, abs=1e-15), name
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
    assert metrics["AP"] == pytest.approx(1.0, abs=1e-15)
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


@pytest.mark.parametrize("evaluator", [AverageRecallEvaluator, BoundaryAPEvaluator])
@pytest.mark.parametrize("ranks", [2, 3])
def test_shares_of_ranks_add_up_to_the_whole(
    ranks: int, evaluator: type[AverageRecallEvaluator]
) -> None:
    records, results = made_up_dataset(5)
    whole = evaluator(records)
    expected = metrics_of(whole, results)
    merged = {}
    for rank in reversed(range(ranks)):
        share = evaluator(records)
        metrics_of(share, dict(list(results.items())[rank::ranks]))
        merged |= pickle.loads(pickle.dumps(dict(share.results)))
    merged = dict(sorted(merged.items()))
    np.testing.assert_equal(whole.measure(merged), expected)
    assert whole.curves(merged) == whole.curves(whole.results)


def test_no_mask_is_a_result_too() -> None:
    evaluator = AverageRecallEvaluator([record()])
    evaluator.process([{"image_id": 1}], [MaskSet.empty((40, 40))])
    assert evaluator.evaluate()["AR@1000"] == 0.0


def test_nothing_of_the_masks_is_kept() -> None:
    noise = np.random.default_rng(0).random((40, 256, 256)) < 0.5
    masks = MaskSet.from_masks(noise, score=np.linspace(1, 0, 40))
    evaluator = AverageRecallEvaluator([record(1, halves(256))])
    evaluator.process([{"image_id": 1}], [masks])
    assert len(pickle.dumps(evaluator.results)) < 2_000 < masks.runs.nbytes / 1000


def test_curves_pass_through_the_metrics() -> None:
    records, results = made_up_dataset(5)
    evaluator = AverageRecallEvaluator(records, max_detections=(1, 3, 12))
    metrics = metrics_of(evaluator, results)
    curves = evaluator.curves(evaluator.results)
    masks = curves["recall_vs_masks"]
    assert masks["x"] == list(range(1, 13))
    for limit in (1, 3, 12):
        assert masks["y"][limit - 1] == pytest.approx(metrics[f"AR@{limit}"], abs=1e-12)
    assert np.mean(curves["recall_vs_iou_all"]["y"]) == pytest.approx(metrics["AR@12"], abs=1e-12)
    assert np.mean(curves["recall_vs_iou_small"]["y"]) == pytest.approx(metrics["ARs@12"])
    assert curves["recall_vs_iou_all"]["y"][0] == metrics["AR@12_iou50"]
    assert curves["recall_vs_iou_all"]["y"][5] == metrics["AR@12_iou75"]
    for percent in (50, 75):
        precision = curves[f"precision_vs_recall_iou{percent}"]
        assert len(precision["x"]) == 101
        assert np.mean(precision["y"]) == pytest.approx(metrics[f"AP{percent}"], abs=1e-12)


def test_boundary_ap_is_that_of_faster_coco_eval() -> None:
    records, results = made_up_dataset(6, seed=3)
    for item in records:
        # A shift by one pixel keeps most of a mask but not of its band along the contour.
        near = np.roll(item.decode(item.load_annotations()).masks(), 1, axis=1)
        score = np.linspace(0.3, 0.9, len(near))
        noise = results[item.image_id]
        results[item.image_id] = MaskSet.cat([noise, MaskSet.from_masks(near, score=score)])
    metrics = metrics_of(BoundaryAPEvaluator(records), results)
    images = [{"id": r.image_id, "height": r.height, "width": r.width} for r in records]
    truth = [row for r in records for row in r.load_annotations()]
    found = [row for r in records for row in results[r.image_id].to_coco(r.image_id)]
    tables = []
    for rows in (truth, found):
        rows = [row | {"id": number} for number, row in enumerate(rows, 1)]
        tables.append(COCO({"images": images, "annotations": rows, "categories": [{"id": 1}]}))
    oracle = COCOeval_faster(*tables, "boundary", boundary_cpu_count=1)
    oracle.params.maxDets = [1, 10, 100, 1000]
    oracle.evaluate()
    oracle.accumulate()
    recall, precision = oracle.eval["recall"], oracle.eval["precision"]
    assert metrics["AR@1000"] == pytest.approx(recall[:, 0, 0, -1].mean(), abs=1e-12)
    assert metrics["ARs@1000"] == pytest.approx(recall[:, 0, 1, -1].mean(), abs=1e-12)
    assert metrics["AP"] == pytest.approx(precision[:, :, 0, 0, -1].mean(), abs=1e-12)
    plain = metrics_of(AverageRecallEvaluator(records), results)
    assert 0.1 < metrics["AR@1000"] < plain["AR@1000"]
    assert "mean_best_iou" in plain.keys() - metrics.keys()


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
    for useless in (record(1, MaskSet.empty((4, 4))), record(iscrowd=1)):
        with pytest.raises(DataError, match=r"not one annotation to find .* none or crowd"):
            AverageRecallEvaluator([useless]).evaluate()
