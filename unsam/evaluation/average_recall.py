"""Class-agnostic average recall and precision of whole-image results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from unsam.data import ImageRecord
from unsam.data.datasets.record import is_crowd
from unsam.errors import DataError
from unsam.evaluation.boundaries.boundary_iou import boundary_iou
from unsam.evaluation.build import EVALUATORS
from unsam.evaluation.coco_scores import RECALLS, CocoScores, score_matches
from unsam.evaluation.detection_matching import (
    IOU_THRESHOLDS,
    SIZE_RANGES,
    PhotoMatches,
    mask_overlaps,
    match_detections,
)
from unsam.evaluation.evaluator import Evaluator
from unsam.structures import MaskSet

Curves = dict[str, dict[str, list[float]]]
"""Name of a curve -> its points, ``{"x": [...], "y": [...]}``."""


@EVALUATORS.register()
class AverageRecallEvaluator(Evaluator):
    """AR at 1, 10, 100, 1000 masks per photo, by size, and AP, under COCO's rules.

    The protocol of UnSAM and UnSAMv2 (whole image): masks only, categories off, all photos count,
    a detection's size is its mask's area, a truth's size its ``area`` field, crowd regions are
    ignored. AP and the numbers by size are at the largest limit k; ``AR@k_iou50`` and
    ``AR@k_iou75`` are the recall at one IoU threshold.

    Two numbers are added that let one detection serve several truths, which matters where several
    people's drawings are pooled and nearly the same region is there more than once:
    ``mean_best_iou``, the mean over the truths of the best IoU, and ``AR@k_best_overlap``, the
    share of truths whose best IoU reaches a threshold, averaged over the ten thresholds.

    Each photo is matched at once and its masks are forgotten (see `PhotoMatches`).
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        *,
        max_detections: Sequence[int] = (1, 10, 100, 1000),
    ) -> None:
        super().__init__(records)
        self.max_detections = sorted(int(limit) for limit in max_detections)
        if not self.max_detections or self.max_detections[0] < 1:
            raise ValueError(f"max_detections must be positive numbers, got {max_detections!r}")

    @classmethod
    def from_config(cls, cfg: CfgNode, records: Sequence[ImageRecord]) -> AverageRecallEvaluator:
        """Build from ``EVALUATION.MAX_DETECTIONS``."""
        return cls(records, max_detections=cfg.EVALUATION.MAX_DETECTIONS)

    def overlaps(self, masks: MaskSet, truth: MaskSet, crowd: np.ndarray) -> np.ndarray:
        """Return what decides a match, ``float64 [D, G]`` in [0, 1]; see `mask_overlaps`."""
        return mask_overlaps(masks, truth, crowd)

    def process(self, samples: Sequence[Mapping[str, Any]], outputs: Sequence[MaskSet]) -> None:
        """Match the best masks of each photo with its truth; see `Evaluator.process`."""
        for sample, masks in zip(samples, outputs, strict=True):
            record = self.record_of(sample)
            self.add(record.image_id, self._match(record, masks))

    def measure(self, results: Mapping[int, PhotoMatches]) -> dict[str, float]:
        """Return the metrics of all photos of the dataset, those without a result included."""
        photos = self._all_photos(results)
        scores = self._scores(photos)
        last = self.max_detections[-1]
        return (
            scores.metrics
            | {
                f"AR@{last}_iou50": float(scores.recall_per_iou[0]),
                f"AR@{last}_iou75": float(scores.recall_per_iou[5]),
            }
            | self._best_overlap_metrics(scores)
            | {
                "masks_per_photo": sum(photo.scores.size for photo in photos) / len(photos),
                "photos": float(len(photos)),
                "objects": float(scores.best_iou.size),
            }
        )

    def curves(self, results: Mapping[int, PhotoMatches]) -> Curves:
        """Return precision against recall, and recall against masks per photo and against IoU.

        All at the largest limit but for ``recall_vs_masks``, which has a point for every limit
        from 1 to that (the recall is averaged over the IoU thresholds, as AR). A curve by size is
        left out where the truth has no object of that size.
        """
        photos = self._all_photos(results)
        scores = self._scores(photos)
        curves = {
            f"precision_vs_recall_iou{percent}": _curve(RECALLS, scores.precision[row, :, 0, 0, -1])
            for percent, row in ((50, 0), (75, 5))
        }
        recall = _recall_at_each_rank(photos, self.max_detections[-1])
        curves["recall_vs_masks"] = _curve(np.arange(1, recall.size + 1), recall)
        for place, size in enumerate(SIZE_RANGES):
            if scores.recall[0, 0, place, -1] >= 0:
                row = scores.recall[:, 0, place, -1]
                curves[f"recall_vs_iou_{size}"] = _curve(IOU_THRESHOLDS, row)
        return curves

    def _match(self, record: ImageRecord, masks: MaskSet) -> PhotoMatches:
        if masks.size != record.size:
            raise DataError(
                f"{record.file_name}: masks of size {masks.size}, photo of {record.size}"
            )
        annotations = record.load_annotations()
        truth = record.decode(annotations)
        crowd = np.array([is_crowd(item) for item in annotations], bool)
        truth_areas = [
            float(item.get("area", area))
            for item, area in zip(annotations, truth.areas.tolist(), strict=True)
        ]
        # Empty masks find nothing; they still take a place under the limit, as in COCO.
        order = np.argsort(-masks.score, kind="stable")[: self.max_detections[-1]]
        best = masks.filter(order)
        overlaps = self.overlaps(best, truth, crowd)
        return match_detections(overlaps, best.score, best.areas, np.array(truth_areas), crowd)

    def _all_photos(self, results: Mapping[int, PhotoMatches]) -> list[PhotoMatches]:
        """Return the matches of every photo in order of the ids; one without a result has none."""
        return [
            results[key] if key in results else self._match(record, MaskSet.empty(record.size))
            for key, record in sorted(self.records.items())
        ]

    def _scores(self, photos: Sequence[PhotoMatches]) -> CocoScores:
        if not any(photo.best_iou.size for photo in photos):
            raise DataError(
                "not one annotation to find in the dataset to evaluate on: its "
                f"{len(photos)} photos have none or crowd regions only"
            )
        return score_matches([photos], self.max_detections)

    def _best_overlap_metrics(self, scores: CocoScores) -> dict[str, float]:
        found = scores.best_iou[:, None] >= IOU_THRESHOLDS
        return {
            f"AR@{self.max_detections[-1]}_best_overlap": float(found.mean()),
            "mean_best_iou": float(scores.best_iou.mean()),
        }


@EVALUATORS.register()
class BoundaryAPEvaluator(AverageRecallEvaluator):
    """Boundary AP and AR: those of COCO by the smaller of mask IoU and Boundary IoU.

    Cheng et al., "Boundary IoU: improving object-centric image segmentation evaluation", CVPR 2021:
    the overlap of large masks is decided by their insides, that of their bands along the contour is
    not. Crowd regions are matched by the mask alone.
    """

    def overlaps(self, masks: MaskSet, truth: MaskSet, crowd: np.ndarray) -> np.ndarray:
        """Return the smaller of both IoUs where the mask IoU can still match, else the mask IoU."""
        smaller = mask_overlaps(masks, truth, crowd)
        # A mask IoU below the lowest threshold rules a pair out: bands are made for the others.
        near = (smaller >= IOU_THRESHOLDS[0]) & ~crowd
        rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        if rows.size:
            bands = boundary_iou(masks.filter(rows), truth.filter(columns))
            pairs = np.ix_(rows, columns)
            smaller[pairs] = np.where(
                crowd[columns], smaller[pairs], np.minimum(smaller[pairs], bands)
            )
        return smaller

    def _best_overlap_metrics(self, scores: CocoScores) -> dict[str, float]:
        # Overlaps too low to match are of the mask alone: a mean of both would mean nothing.
        return {}


def _curve(x: np.ndarray, y: np.ndarray) -> dict[str, list[float]]:
    return {"x": [float(value) for value in x], "y": [float(value) for value in y]}


def _recall_at_each_rank(photos: Sequence[PhotoMatches], limit: int) -> np.ndarray:
    """Return the recall with the first 1, 2, ... `limit` masks of each photo, ``float64 [limit]``.

    Averaged over the IoU thresholds, objects of all sizes.
    """
    found = np.zeros(limit, np.int64)
    for photo in photos:
        found[: photo.scores.size] += (photo.outcomes(0) == 1).sum(axis=0)
    total = sum(int(photo.num_objects[0]) for photo in photos)
    return np.cumsum(found) / (total * IOU_THRESHOLDS.size)
