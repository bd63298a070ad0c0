"""COCO's average precision and recall, with faster-coco-eval as the engine.

The rules are those of pycocotools: ten IoU thresholds from 0.5 to 0.95, each truth matched by at
most one detection and the reverse, crowd regions neither found nor false, detections above the
limit per photo dropped by score. What differs on purpose is that categories are off by default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as rle_mask

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZES = {"s": "small", "m": "medium", "l": "large"}


@dataclass(frozen=True)
class CocoScores:
    """The result of one evaluation.

    Attributes:
        metrics: AP, AP50, AP75, AR@k for each limit k, and AP and AR of small (area below 32^2),
            medium (below 96^2) and large objects (APs, ARs@k ... at the largest limit); NaN where
            the truth has no such object.
        recall: the table behind AR, ``float64 [T, K, A, M]`` over IoU thresholds, categories,
            sizes (all, small, medium, large) and limits; -1 where there is no truth.
        precision: the table behind AP, ``float64 [T, R, K, A, M]``, R recalls 0, 0.01 ... 1. Where
            pycocotools adds 2e-16 to a denominator the engine does not: equal to it but for that.
        best_iou: for each truth that is no crowd region, its best IoU with any detection,
            ``float64 [G]``, in order of the photos; empty when categories are on.
    """

    metrics: dict[str, float]
    recall: np.ndarray
    precision: np.ndarray
    best_iou: np.ndarray

    @property
    def recall_per_iou(self) -> np.ndarray:
        """Recall at each of `IOU_THRESHOLDS`, all sizes, the largest limit: ``float64 [10]``."""
        table = self.recall[:, :, 0, -1]
        return np.array([_mean(row) for row in table])


def score_detections(
    images: Sequence[Mapping[str, Any]],
    truth: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    *,
    max_detections: Sequence[int] = (1, 10, 100, 1000),
    iou_type: str = "segm",
    use_categories: bool = False,
) -> CocoScores:
    """Score detections against the truth; every photo of `images` counts.

    Args:
        images: ``id``, ``height``, ``width`` of all photos.
        truth: ``image_id``, ``segmentation`` (RLE) or ``bbox``, ``area``, ``iscrowd``.
        detections: ``image_id``, ``segmentation`` (RLE) or ``bbox``, ``score``. Equal scores keep
            their order.
        max_detections: limits per photo, ascending.
        iou_type: ``"segm"`` or ``"bbox"``. It decides the area of a detection: of its mask, or of
            its box.
        use_categories: whether ``category_id`` must agree.
    """
    dataset = _index(images, _as_annotations(truth, iou_type, use_categories))
    found = _as_annotations(detections, iou_type, use_categories)
    for item in found:
        item["iscrowd"] = 0
        if iou_type == "segm":
            item["area"] = float(rle_mask.area(item["segmentation"]))
        else:
            item["area"] = float(item["bbox"][2] * item["bbox"][3])
    engine = COCOeval_faster(dataset, _index(images, found), iou_type)
    engine.params.maxDets = [int(limit) for limit in max_detections]
    engine.params.useCats = int(use_categories)
    engine.evaluate()
    engine.accumulate()
    recall = np.asarray(engine.eval["recall"])
    precision = np.asarray(engine.eval["precision"])
    best = np.zeros(0) if use_categories else _best_overlaps(engine, dataset)
    return CocoScores(
        metrics=_summary(precision, recall, engine.params.maxDets, engine.params.areaRngLbl),
        recall=recall,
        precision=precision,
        best_iou=best,
    )


def _as_annotations(
    items: Sequence[Mapping[str, Any]], iou_type: str, use_categories: bool
) -> list[dict[str, Any]]:
    """Return copies with what the engine needs.

    Without categories all get the same one: the engines drop a detection whose category the truth
    does not know even when told to ignore categories. Ids are numbered anew, from 1: an id of 0
    counts as "not matched", and files with repeated ids would lose annotations.
    """
    keys = ("segmentation",) if iou_type == "segm" else ("bbox",)
    return [
        {
            "id": index,
            "image_id": int(item["image_id"]),
            "category_id": int(item["category_id"]) if use_categories else 1,
            "iscrowd": int(item.get("iscrowd", 0)),
            "area": float(item.get("area", 0.0)),
            "score": float(item.get("score", 1.0)),
            **{key: item[key] for key in keys},
        }
        for index, item in enumerate(items, start=1)
    ]


def _index(images: Sequence[Mapping[str, Any]], annotations: list[dict[str, Any]]) -> COCO:
    categories = sorted({item["category_id"] for item in annotations} | {1})
    return COCO(
        {
            "images": [
                {key: int(image[key]) for key in ("id", "height", "width")} for image in images
            ],
            "annotations": annotations,
            "categories": [{"id": number, "name": str(number)} for number in categories],
        }
    )


def _summary(
    precision: np.ndarray, recall: np.ndarray, limits: Sequence[int], sizes: Sequence[str]
) -> dict[str, float]:
    """Average ``precision [T, R, K, A, M]`` and ``recall [T, K, A, M]`` into named numbers."""
    last = limits[-1]
    metrics = {
        "AP": _mean(precision[:, :, :, 0, -1]),
        "AP50": _mean(precision[:1, :, :, 0, -1]),
        "AP75": _mean(precision[5:6, :, :, 0, -1]),
    }
    for letter, name in SIZES.items():
        metrics[f"AP{letter}"] = _mean(precision[:, :, :, sizes.index(name), -1])
    for index, limit in enumerate(limits):
        metrics[f"AR@{limit}"] = _mean(recall[:, :, 0, index])
    for letter, name in SIZES.items():
        metrics[f"AR{letter}@{last}"] = _mean(recall[:, :, sizes.index(name), -1])
    return metrics


def _mean(values: np.ndarray) -> float:
    """Return the mean of the entries that exist (-1 marks those without any truth).

    Summed exactly: numpy's sum depends on where in memory the numbers lie, in the last digit.
    """
    existing = values[values > -1]
    return math.fsum(existing.tolist()) / existing.size if existing.size else math.nan


def _best_overlaps(engine: COCOeval_faster, dataset: COCO) -> np.ndarray:
    """Return the best IoU of every truth from the overlaps that the engine has computed anyway."""
    best: list[np.ndarray] = []
    for image_id in engine.params.imgIds:
        targets = [item["iscrowd"] == 0 for item in dataset.imgToAnns[image_id]]
        overlaps = np.asarray(engine.ious[image_id, -1], np.float64)
        if overlaps.size:
            best.append(overlaps.max(axis=0)[targets])
        else:
            best.append(np.zeros(sum(targets)))
    return np.concatenate(best) if best else np.zeros(0)
