from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.synthetic import ClickableTruth, disc_predictor
from unsam.data import ImageRecord
from unsam.data.datasets import load_coco_json
from unsam.evaluation import AverageRecallEvaluator, InteractiveEvaluator
from unsam.evaluation.clicks import best_granularity, clicks_to_target
from unsam.evaluation.coco_scores import score_detections
from unsam.structures import MaskSet

TRUTH = {"lvis_val_100": "lvis/lvis_val_100.json", "coco_val": "coco/coco_val.json"}


def check_average_recall(folder: Path, data: Path) -> None:
    golden = json.loads((folder / "coco_ar.json").read_text())
    for name, path in TRUTH.items():
        records = load_coco_json(data / path, photos_required=False)
        detections = json.loads((folder / f"results_{name}.json").read_text())
        check_evaluator(golden[name]["segm"], records, detections)
        truth = json.loads((data / path).read_text())["annotations"]
        images = [{"id": r.image_id, "height": r.height, "width": r.width} for r in records]
        boxes = score_detections(
            images, truth, detections, max_detections=(1, 10, 1000), iou_type="bbox"
        )
        np.testing.assert_allclose(
            boxes.recall_per_iou, golden[name]["bbox"].pop("recall_per_iou_all_1000"), atol=1e-9
        )
        for metric, value in golden[name]["bbox"].items():
            assert boxes.metrics[metric] == pytest.approx(value, abs=1e-9), metric


def check_evaluator(
    expected: dict[str, float], records: list[ImageRecord], detections: list[dict]
) -> None:
    evaluator = AverageRecallEvaluator(records, max_detections=(1, 10, 1000))
    for record in records:
        rows = [row for row in detections if row["image_id"] == record.image_id]
        # The scores of the file have more digits than float32, whose order is what counts.
        rows.sort(key=lambda row: -row["score"])
        evaluator.process([{"image_id": record.image_id}], [MaskSet.from_coco(rows, record.size)])
    metrics = evaluator.evaluate()
    for metric in set(expected) - {"recall_per_iou_all_1000"}:
        assert metrics[metric] == pytest.approx(expected[metric], abs=1e-9), metric


def check_clicks(folder: Path, data: Path) -> None:
    golden = json.loads((folder / "noc.json").read_text())
    records = {r.image_id: r for r in load_coco_json(data / "bsds500" / "bsds500_val.json")}
    plain, oracle = [], []
    for sample in golden["samples"]:
        record = records[sample["image_id"]]
        rows = [r for r in record.load_annotations() if r["id"] == sample["annotation_id"]]
        truth = record.decode(rows).mask(0).astype(np.int8)
        truth[:, : sample["ignore_columns_before"]] = -1
        assert (truth == 1).sum() == sample["object_pixels"]
        trace = clicks_to_target(disc_predictor(truth == 1, *sample["radii_plain"]), truth)
        assert [list(click) for click in trace.clicks] == sample["clicks_yx_positive"]
        np.testing.assert_allclose(trace.ious, sample["iou_per_click"], atol=1e-6)
        plain.append(trace)
        traces = [
            (float(g), clicks_to_target(disc_predictor(truth == 1, *radii), truth))
            for g, radii in sample["radii_per_granularity"].items()
        ]
        best, trace = best_granularity(traces)
        assert best == sample["oracle_granularity"]
        np.testing.assert_allclose(trace.ious, sample["oracle_iou_per_click"], atol=1e-6)
        oracle.append(trace)
    for name, found in (("plain", plain), ("oracle", oracle)):
        for place, target in enumerate(golden["thresholds"]):
            clicks = [trace.clicks_to(target, 20) for trace in found]
            assert np.mean(clicks) == pytest.approx(golden[name]["NoC"][place], abs=1e-9)
            assert np.std(clicks) == pytest.approx(golden[name]["std"][place], abs=1e-9)
            assert sum(n == 20 for n in clicks) == golden[name]["failures"][place]
        first = np.mean([trace.ious[0] for trace in found])
        assert first == pytest.approx(golden[name]["mean_iou_after_1_click"], abs=1e-6)
    check_interactive_evaluator(golden, records)


def check_interactive_evaluator(golden: dict, records: dict[int, ImageRecord]) -> None:
    """The batched evaluator, with crowd regions for the ignored pixels, gives the same numbers."""
    chosen, segmenters = [], []
    for number, sample in enumerate(golden["samples"]):
        record = records[sample["image_id"]]
        rows = [r for r in record.load_annotations() if r["id"] == sample["annotation_id"]]
        target = record.decode(rows).mask(0)
        ignored = np.zeros_like(target)
        ignored[:, : sample["ignore_columns_before"]] = True
        both = MaskSet.from_masks(np.stack([target & ~ignored, ignored])).to_coco(number)
        both[1]["iscrowd"] = 1
        rows = both if ignored.any() else both[:1]
        chosen.append(ImageRecord(number, record.file_name, *record.size, rows))
        radii = {float(g): r for g, r in sample["radii_per_granularity"].items()}
        segmenters.append(
            ClickableTruth([target & ~ignored], [radii | {0.4: sample["radii_plain"]}])
        )
    evaluator = InteractiveEvaluator(chosen, granularities=(0.4,), batch_size=3)
    for record, segmenter in zip(chosen, segmenters, strict=True):
        sample = {"image_id": record.image_id, "image": np.zeros((*record.size, 3), np.uint8)}
        evaluator.process([sample], segmenter)
    metrics = evaluator.evaluate()
    names = {"plain": ("", "@g0.4"), "oracle": ("oracle_", "")}
    for name, (prefix, suffix) in names.items():
        for place, target in enumerate(("80", "85", "90")):
            noc = metrics[f"{prefix}noc{target}{suffix}"]
            assert noc == pytest.approx(golden[name]["NoC"][place], abs=1e-9)
            failures = metrics[f"{prefix}failures{target}{suffix}"]
            assert failures == golden[name]["failures"][place]
        first = metrics[f"{prefix}iou1{suffix}"]
        assert first == pytest.approx(golden[name]["mean_iou_after_1_click"], abs=1e-6)


CHECKS: dict[str, list[Callable[[Path, Path], None]]] = {
    "evaluation": [check_average_recall, check_clicks]
}


@pytest.mark.parametrize("pack", sorted(CHECKS))
def test_golden(pack: str, golden_root: Path, data_root: Path) -> None:
    for check in CHECKS[pack]:
        check(golden_root / pack, data_root)
