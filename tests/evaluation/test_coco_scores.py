from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.evaluation.synthetic import made_up_dataset
from unsam.errors import DataError
from unsam.evaluation.coco_scores import score_detections
from unsam.structures import MaskSet

LIMITS = (1, 10, 100, 1000)


def rows_of(photos: int, seed: int) -> tuple[list[Any], list[Any], list[Any]]:
    records, results = made_up_dataset(photos, seed)
    images = [{"id": r.image_id, "height": r.height, "width": r.width} for r in records]
    truth = [row for record in records for row in record.load_annotations()]
    found = [row for r in records for row in results[r.image_id].to_coco(r.image_id)]
    return images, truth, found


def pycocotools_tables(
    images: Any,
    truth: Any,
    found: Any,
    kind: str,
    limits: tuple[int, ...] = LIMITS,
    use_categories: bool = False,
) -> tuple[Any, Any]:
    """Recall and precision tables of pycocotools, the reference implementation."""
    names = {row["category_id"] for row in truth + found} if use_categories else {1}
    both = []
    for rows in (truth, found):
        coco = COCO()
        rows = [dict(copy.deepcopy(row), id=n) for n, row in enumerate(rows, 1)]
        for row in rows:
            row.setdefault("iscrowd", 0)
            row["category_id"] = row["category_id"] if use_categories else 1
        categories = [{"id": name} for name in sorted(names)]
        coco.dataset = {"images": images, "annotations": rows, "categories": categories}
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        both.append(coco)
    oracle = COCOeval(*both, kind)
    oracle.params.maxDets = list(limits)
    oracle.params.useCats = int(use_categories)
    with contextlib.redirect_stdout(io.StringIO()):
        oracle.evaluate()
        oracle.accumulate()
    return oracle.eval["recall"], oracle.eval["precision"]


def mean(values: np.ndarray) -> float:
    kept = values[values > -1]
    return float(kept.mean()) if kept.size else float("nan")


@pytest.mark.parametrize("kind", ["segm", "bbox"])
@pytest.mark.parametrize("seed", [0, 1])
def test_equal_to_pycocotools(seed: int, kind: str) -> None:
    images, truth, found = rows_of(6, seed)
    if kind == "bbox":
        for row in found:
            row["area"] = row["bbox"][2] * row["bbox"][3]
    scores = score_detections(images, truth, found, max_detections=LIMITS, iou_type=kind)
    recall, precision = pycocotools_tables(images, truth, found, kind)
    expected = {
        "AP": mean(precision[..., 0, -1]),
        "AP50": mean(precision[0, ..., 0, -1]),
        "AP75": mean(precision[5, ..., 0, -1]),
    }
    for place, letter in enumerate("sml", start=1):
        expected[f"AP{letter}"] = mean(precision[..., place, -1])
        expected[f"AR{letter}@1000"] = mean(recall[..., place, -1])
    for place, limit in enumerate(LIMITS):
        expected[f"AR@{limit}"] = mean(recall[..., 0, place])
    assert set(expected) == set(scores.metrics)
    np.testing.assert_equal(scores.metrics, expected)
    np.testing.assert_array_equal(scores.recall, recall)
    np.testing.assert_array_equal(scores.recall_per_iou, recall[:, 0, 0, -1])
    np.testing.assert_array_equal(scores.precision, precision)


def random_boxes(rng: np.random.Generator, image_id: int, count: int) -> list[Any]:
    """Boxes of few positions, sizes (with areas of just 32^2 and 96^2) and scores: all is tied."""
    rows = []
    for _ in range(count):
        side = int(rng.choice([8, 31, 32, 33, 95, 96, 97]))
        left, top = (int(value) * 4 for value in rng.integers(0, 4, 2))
        rows.append(
            {
                "image_id": image_id,
                "category_id": int(rng.integers(3, 6)),
                "bbox": [left, top, side, side],
                "area": side * side,
                "score": int(rng.integers(0, 4)) / 3,
            }
        )
    return rows


@pytest.mark.parametrize("use_categories", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_hard_cases_are_equal_to_pycocotools(seed: int, use_categories: bool) -> None:
    rng = np.random.default_rng(seed)
    images = [{"id": int(n), "height": 120, "width": 120} for n in rng.permutation(50)[:8]]
    truth, found = [], []
    for image in images:
        # Photos without truth, without detections, without both; more than the limit of 6.
        truth += random_boxes(rng, image["id"], int(rng.choice([0, 1, 9])))
        found += random_boxes(rng, image["id"], int(rng.choice([0, 5, 30])))
    for row in truth:
        row["iscrowd"] = int(rng.random() < 0.2)
    for row in found:
        row["area"] = row["bbox"][2] * row["bbox"][3]
    order = rng.permutation(len(found))
    found = [found[index] for index in order]
    limits = (1, 2, 6)
    scores = score_detections(
        images, truth, found, max_detections=limits, iou_type="bbox", use_categories=use_categories
    )
    recall, precision = pycocotools_tables(images, truth, found, "bbox", limits, use_categories)
    np.testing.assert_array_equal(scores.recall, recall)
    np.testing.assert_array_equal(scores.precision, precision)
    assert scores.metrics["AP"] == mean(precision[..., 0, -1])
    assert scores.metrics["AR@2"] == mean(recall[..., 0, 1])


def test_the_known_answer_of_the_fashionpedia_sample(data_root: Path) -> None:
    folder = data_root / "fashionpedia_sample"
    content = json.loads((folder / "original_sample.json").read_text())
    oracle = COCO()
    oracle.dataset = copy.deepcopy(content)
    with contextlib.redirect_stdout(io.StringIO()):
        oracle.createIndex()
    for row in content["annotations"]:
        row["segmentation"] = oracle.annToRLE(row)
    scores = score_detections(
        content["images"],
        content["annotations"],
        json.loads((folder / "original_fake_results.json").read_text()),
        max_detections=(1, 10, 100),
        use_categories=True,
    )
    published = dict(AP=0.532, AP50=0.532, AP75=0.532, APs=0.505, APm=0.0, APl=0.8)
    published |= {"AR@1": 0.5, "AR@10": 0.562, "AR@100": 0.562}
    published |= {"ARs@100": 0.5, "ARm@100": 0.0, "ARl@100": 0.8}
    for name, value in published.items():
        assert scores.metrics[name] == pytest.approx(value, abs=5.1e-4), name


def test_categories_and_ids_of_the_files_do_not_matter() -> None:
    images, truth, found = rows_of(3, 2)
    plain = score_detections(images, truth, found)
    for number, row in enumerate(found):
        row |= {"category_id": 90 + number, "id": 0}
    for row in truth:
        row |= {"category_id": 5, "id": 0}
    disguised = score_detections(images, truth, found)
    np.testing.assert_equal(disguised.metrics, plain.metrics)
    assert plain.metrics["AR@1000"] > 0.1


def test_no_detection_at_all_is_recall_zero() -> None:
    images, truth, _ = rows_of(2, 0)
    scores = score_detections(images, truth, [])
    assert scores.metrics["AR@1000"] == 0.0
    assert scores.metrics["AP"] == 0.0
    assert scores.best_iou.tolist() == [0.0] * sum(not row["iscrowd"] for row in truth)


def test_a_row_of_an_unknown_photo_is_one_line() -> None:
    images, truth, found = rows_of(2, 0)
    with pytest.raises(DataError, match="of photo 999, not in images"):
        score_detections(images, truth, [*found, found[0] | {"image_id": 999}])


def test_sizes_without_truth_are_nan() -> None:
    images = [{"id": 1, "height": 20, "width": 20}]
    mask = {"size": [20, 20], "counts": [0, 400]}
    rle = MaskSet.from_rles((20, 20), [mask]).rles[0]
    row = {"image_id": 1, "segmentation": rle, "area": 400}
    scores = score_detections(images, [row], [row | {"score": 0.5}])
    assert scores.metrics["ARs@1000"] == 1.0
    assert np.isnan(scores.metrics["ARl@1000"])
