"""Class-agnostic average recall and precision of whole-image results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from unsam.data import ImageRecord
from unsam.data.datasets.record import is_crowd
from unsam.errors import DataError
from unsam.evaluation.build import EVALUATORS
from unsam.evaluation.coco_scores import IOU_THRESHOLDS, score_detections
from unsam.evaluation.evaluator import Evaluator
from unsam.structures import MaskSet


@EVALUATORS.register()
class AverageRecallEvaluator(Evaluator):
    """AR at 1, 10, 100, 1000 masks per photo, by size, and AP, under COCO's rules.

    The protocol of UnSAM and UnSAMv2 (whole image): masks only, categories off, all photos count,
    a detection's size is its mask's area, a truth's size its ``area`` field, crowd regions are
    ignored. AP and the numbers by size are at the largest limit.

    Two numbers are added that let one detection serve several truths, which matters where several
    people's drawings are pooled and nearly the same region is there more than once:
    ``mean_best_iou``, the mean over the truths of the best IoU, and ``AR@k_best_overlap``, the
    share of truths whose best IoU reaches a threshold, averaged over the ten thresholds.
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

    def process(self, samples: Sequence[Mapping[str, Any]], outputs: Sequence[MaskSet]) -> None:
        """Keep the best masks of each photo, as compressed text; see `Evaluator.process`."""
        for sample, masks in zip(samples, outputs, strict=True):
            record = self.record_of(sample)
            if masks.size != record.size:
                raise DataError(
                    f"{record.file_name}: masks of size {masks.size}, photo of {record.size}"
                )
            order = np.argsort(-masks.score, kind="stable")[: self.max_detections[-1]]
            best = masks.filter(order)
            # Empty masks find nothing; they still take a place under the limit, as in COCO.
            texts = [rle["counts"] for rle in best.rles]
            self.add(record.image_id, (texts, best.score.astype(np.float32)))

    def measure(self, results: Mapping[int, Any]) -> dict[str, float]:
        """Return the metrics of all photos of the dataset, those without a result included."""
        truth = [row for record in self._ordered() for row in _truth_rows(record)]
        if not truth:
            raise DataError("the dataset to evaluate on has photos but not one annotation")
        detections = [
            {"image_id": image_id, "segmentation": {"size": size, "counts": text}, "score": score}
            for image_id, (texts, scores) in results.items()
            for size in [list(self.records[image_id].size)]
            for text, score in zip(texts, scores.tolist(), strict=True)
        ]
        images = [
            {"id": item.image_id, "height": item.size[0], "width": item.size[1]}
            for item in self._ordered()
        ]
        scores = score_detections(images, truth, detections, max_detections=self.max_detections)
        if not scores.best_iou.size:
            raise DataError("the dataset to evaluate on has nothing but crowd regions")
        found = scores.best_iou[:, None] >= IOU_THRESHOLDS
        return scores.metrics | {
            f"AR@{self.max_detections[-1]}_best_overlap": float(found.mean()),
            "mean_best_iou": float(scores.best_iou.mean()),
            "masks_per_photo": len(detections) / len(self.records),
            "photos": float(len(self.records)),
            "objects": float(scores.best_iou.size),
        }

    def _ordered(self) -> list[ImageRecord]:
        return [self.records[key] for key in sorted(self.records)]


def _truth_rows(record: ImageRecord) -> list[dict[str, Any]]:
    """Return one row per annotation, crowd regions marked, for `score_detections`."""
    annotations = record.load_annotations()
    masks = record.decode(annotations)
    return [
        {
            "image_id": record.image_id,
            "segmentation": rle,
            "area": float(item.get("area", area)),
            "iscrowd": int(is_crowd(item)),
        }
        for item, rle, area in zip(annotations, masks.rles, masks.areas.tolist(), strict=True)
    ]
