"""COCO's average precision and recall from per-photo matches, equal to pycocotools to the last bit.

The rules: ten IoU thresholds from 0.5 to 0.95, each truth matched by at most one detection and the
reverse, crowd regions neither found nor false, detections above the limit per photo dropped by
score. What differs on purpose is that categories are off by default, and that limits other than
1, 10, 100 get a summary too (pycocotools averages the AP of a limit of 100 only).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unsam.errors import DataError
from unsam.evaluation.detection_matching import (
    IOU_THRESHOLDS,
    SIZE_RANGES,
    PhotoMatches,
    mask_overlaps,
    match_detections,
)
from unsam.regions.compiled import kernel
from unsam.structures import MaskSet

RECALLS = np.linspace(0.0, 1.0, 101)
"""Where precision is read off."""

# pycocotools' guard against 0 / 0, kept since it shows in the last digit.
_SPACING = float(np.spacing(1.0))


@dataclass(frozen=True)
class CocoScores:
    """The result of one evaluation.

    Attributes:
        metrics: AP, AP50, AP75, AR@k for each limit k, and AP and AR of small (area up to 32^2),
            medium (up to 96^2) and large objects (APs, ARs@k ... at the largest limit); NaN where
            the truth has no such object.
        recall: the table behind AR, ``float64 [T, K, A, M]`` over IoU thresholds, categories,
            sizes (all, small, medium, large) and limits; -1 where there is no truth.
        precision: the table behind AP, ``float64 [T, R, K, A, M]``, R the `RECALLS`.
        best_iou: for each truth that is no crowd region, its best IoU with any detection,
            ``float64 [G]``, in order of the photos, category by category.
    """

    metrics: dict[str, float]
    recall: np.ndarray
    precision: np.ndarray
    best_iou: np.ndarray

    @property
    def recall_per_iou(self) -> np.ndarray:
        """Recall at each of `IOU_THRESHOLDS`, all sizes, the largest limit: ``float64 [10]``."""
        return np.array([_mean(row) for row in self.recall[:, :, 0, -1]])


def score_matches(
    categories: Sequence[Sequence[PhotoMatches]], max_detections: Sequence[int]
) -> CocoScores:
    """Add up the photos of each category; all photos as one category where categories are off.

    Args:
        categories: for each category its photos in order of their ids, which decides among equal
            scores; photos with neither truth nor detections may be left out.
        max_detections: limits per photo, ascending; the largest one at most that of the matches.
    """
    tables = [_accumulate(photos, max_detections) for photos in categories]
    recall = np.stack([table[0] for table in tables], axis=1)
    precision = np.stack([table[1] for table in tables], axis=2)
    best = [photo.best_iou for photos in categories for photo in photos]
    return CocoScores(
        metrics=_summary(precision, recall, max_detections),
        recall=recall,
        precision=precision,
        best_iou=np.concatenate(best) if best else np.zeros(0),
    )


def score_detections(
    images: Sequence[Mapping[str, Any]],
    truth: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    *,
    max_detections: Sequence[int] = (1, 10, 100, 1000),
    iou_type: str = "segm",
    use_categories: bool = False,
) -> CocoScores:
    """Score rows of COCO files against the truth; every photo of `images` counts.

    Args:
        images: ``id``, ``height``, ``width`` of all photos.
        truth: ``image_id``, ``segmentation`` or ``bbox``, ``area``, ``iscrowd``.
        detections: ``image_id``, ``segmentation`` or ``bbox``, ``score``. Equal scores keep their
            order.
        max_detections: limits per photo, ascending.
        iou_type: ``"segm"`` or ``"bbox"``. It decides the area of a detection: of its mask, or of
            its box.
        use_categories: whether ``category_id`` must agree.

    Raises:
        DataError: a row is of a photo that is not there, or has no usable segmentation.
    """
    sizes = {int(row["id"]): (int(row["height"]), int(row["width"])) for row in images}
    wanted, found = (_grouped(rows, sizes, use_categories) for rows in (truth, detections))
    names = sorted({category for category, _ in (wanted.keys() | found.keys())}) or [0]
    match = _match_boxes if iou_type == "bbox" else _match_masks
    categories = [
        [
            match(
                sizes[image_id],
                wanted.get((category, image_id), []),
                _best_first(found.get((category, image_id), []), max_detections[-1]),
            )
            for image_id in sorted(sizes)
        ]
        for category in names
    ]
    return score_matches(categories, max_detections)


Rows = list[Mapping[str, Any]]


def _grouped(
    rows: Sequence[Mapping[str, Any]], sizes: Mapping[int, Any], use_categories: bool
) -> dict[tuple[int, int], Rows]:
    """Return the rows of each category (0 where they are off) and photo, in their order."""
    groups: dict[tuple[int, int], Rows] = defaultdict(list)
    for row in rows:
        image_id = int(row["image_id"])
        if image_id not in sizes:
            raise DataError(f"an annotation or a detection is of photo {image_id}, not in images")
        groups[int(row["category_id"]) if use_categories else 0, image_id].append(row)
    return groups


def _best_first(rows: Rows, limit: int) -> Rows:
    order = np.argsort([-float(row["score"]) for row in rows], kind="stable")
    return [rows[index] for index in order[:limit]]


def _match_masks(size: tuple[int, int], truth: Rows, found: Rows) -> PhotoMatches:
    objects, masks = MaskSet.from_coco(truth, size), MaskSet.from_coco(found, size)
    crowd = _crowd(truth)
    overlaps = mask_overlaps(masks, objects, crowd)
    return match_detections(overlaps, _scores(found), masks.areas, _areas(truth), crowd)


def _match_boxes(size: tuple[int, int], truth: Rows, found: Rows) -> PhotoMatches:
    boxes = np.array([row["bbox"] for row in found], np.float64).reshape(-1, 4)
    objects = np.array([row["bbox"] for row in truth], np.float64).reshape(-1, 4)
    crowd = _crowd(truth)
    overlaps = _box_overlaps(boxes, objects, crowd)
    areas = boxes[:, 2] * boxes[:, 3]
    return match_detections(overlaps, _scores(found), areas, _areas(truth), crowd)


def _scores(rows: Rows) -> np.ndarray:
    return np.array([row["score"] for row in rows], np.float64)


def _areas(rows: Rows) -> np.ndarray:
    return np.array([row.get("area", 0.0) for row in rows], np.float64)


def _crowd(rows: Rows) -> np.ndarray:
    return np.array([bool(row.get("iscrowd", 0)) for row in rows], bool)


def _box_overlaps(boxes: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return what `mask_overlaps` does, for boxes XYWH ``[D, 4]`` and ``[G, 4]``."""
    corner = np.maximum(boxes[:, None, :2], truth[None, :, :2])
    opposite = np.minimum(
        boxes[:, None, :2] + boxes[:, None, 2:], truth[None, :, :2] + truth[None, :, 2:]
    )
    sides = opposite - corner
    common = np.where((sides > 0).all(axis=2), sides[..., 0] * sides[..., 1], 0.0)
    areas = (boxes[:, 2] * boxes[:, 3])[:, None]
    union = np.where(crowd, areas, areas + truth[:, 2] * truth[:, 3] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def _accumulate(
    photos: Sequence[PhotoMatches], limits: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return recall ``[T, A, M]`` and precision ``[T, R, A, M]`` of one category."""
    shape = (len(SIZE_RANGES), len(limits))
    recall = np.full((IOU_THRESHOLDS.size, *shape), -1.0)
    precision = np.full((IOU_THRESHOLDS.size, RECALLS.size, *shape), -1.0)
    if not photos:
        return recall, precision
    order = np.argsort(-np.concatenate([photo.scores for photo in photos]), kind="stable")
    ranks = np.concatenate([np.arange(photo.scores.size) for photo in photos])[order]
    for size in range(len(SIZE_RANGES)):
        total = sum(int(photo.num_objects[size]) for photo in photos)
        if not total:
            continue
        outcomes = np.concatenate([photo.outcomes(size) for photo in photos], axis=1)[:, order]
        for place, limit in enumerate(limits):
            tables = _recall_and_precision(outcomes, ranks, limit, total, RECALLS)
            recall[:, size, place], precision[:, :, size, place] = tables
    return recall, precision


@kernel
def _recall_and_precision(
    outcomes: np.ndarray, ranks: np.ndarray, limit: int, total: int, recalls: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the final recall ``[T]`` and the precision at given recalls ``[T, R]``.

    Args:
        outcomes: ``uint8 [T, N]`` of all detections by falling score, see `PhotoMatches.outcomes`.
        ranks: ``int64 [N]``, the place of each in its photo, from 0.
        limit: detections from this place on are left out.
        total: objects to find.
        recalls: ascending.
    """
    levels, count = outcomes.shape
    recall = np.zeros(levels)
    precision = np.zeros((levels, recalls.size))
    curve = np.empty(count)
    first = np.empty(recalls.size, np.int64)
    for level in range(levels):
        found, false, length, reached = 0, 0, 0, 0
        for index in range(count):
            if ranks[index] >= limit:
                continue
            found += outcomes[level, index] == 1
            false += outcomes[level, index] == 2
            curve[length] = found / (float(false + found) + _SPACING)
            recall[level] = found / total
            while reached < recalls.size and recall[level] >= recalls[reached]:
                first[reached] = length
                reached += 1
            length += 1
        # Precision never falls towards lower recall.
        for index in range(length - 1, 0, -1):
            curve[index - 1] = max(curve[index - 1], curve[index])
        for place in range(reached):
            precision[level, place] = curve[first[place]]
    return recall, precision


def _summary(precision: np.ndarray, recall: np.ndarray, limits: Sequence[int]) -> dict[str, float]:
    """Average ``precision [T, R, K, A, M]`` and ``recall [T, K, A, M]`` into named numbers."""
    last = limits[-1]
    sizes = {name[0]: place for place, name in enumerate(SIZE_RANGES) if name != "all"}
    metrics = {
        "AP": _mean(precision[:, :, :, 0, -1]),
        "AP50": _mean(precision[:1, :, :, 0, -1]),
        "AP75": _mean(precision[5:6, :, :, 0, -1]),
    }
    for letter, place in sizes.items():
        metrics[f"AP{letter}"] = _mean(precision[:, :, :, place, -1])
    for index, limit in enumerate(limits):
        metrics[f"AR@{limit}"] = _mean(recall[:, :, 0, index])
    for letter, place in sizes.items():
        metrics[f"AR{letter}@{last}"] = _mean(recall[:, :, place, -1])
    return metrics


def _mean(values: np.ndarray) -> float:
    """Return the mean of the entries that exist (-1 marks those without any truth)."""
    existing = values[values > -1]
    return float(existing.mean()) if existing.size else math.nan
