"""Mean IoU of the regions of a dataset with the masks of a segmenter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode
from scipy.optimize import linear_sum_assignment

from unsam.data import ImageRecord
from unsam.data.datasets.record import is_crowd
from unsam.errors import DataError
from unsam.evaluation.build import EVALUATORS
from unsam.evaluation.evaluator import Evaluator
from unsam.structures import MaskSet


@dataclass(frozen=True, slots=True, eq=False)
class RegionOverlaps:
    """The IoU of each of the G regions of a photo with the mask it is given.

    Attributes:
        categories: ``int64 [G]``, the category id of each, 0 where it has none.
        best: ``float64 [G]`` in [0, 1], the highest with any mask.
        one_to_one: ``float64 [G]``, with its own mask in the assignment of highest total IoU.
    """

    categories: np.ndarray
    best: np.ndarray
    one_to_one: np.ndarray


@EVALUATORS.register()
class MeanIoUEvaluator(Evaluator):
    """Mean over the regions of the truth of the IoU with their mask, in two variants.

    ``mIoU_best_overlap``: each region takes the mask that overlaps it most; one mask may serve
    several regions. ``mIoU_hungarian``: each mask serves at most one region, by the one-to-one
    assignment with the highest sum of IoU (Kuhn, "The Hungarian method for the assignment problem",
    1955); never higher than the first.

    Regions without any mask count 0, all photos count, crowd regions do not. Where the truth has
    more than one ``category_id`` there are also ``class_mIoU_best_overlap`` and
    ``class_mIoU_hungarian``: the mean over categories of the mean over their regions, which weighs
    rare categories like frequent ones. Masks need no category: regions alone have one, so the
    numbers say how well a class's regions are cut out, not whether they are recognised.

    Args:
        records: the photos.
        max_masks: of each photo, the best by score.
    """

    def __init__(self, records: Sequence[ImageRecord], *, max_masks: int = 1000) -> None:
        super().__init__(records)
        if max_masks < 1:
            raise ValueError(f"max_masks must be a positive number, got {max_masks}")
        self.max_masks = max_masks

    @classmethod
    def from_config(cls, cfg: CfgNode, records: Sequence[ImageRecord]) -> MeanIoUEvaluator:
        """Build with the largest of ``EVALUATION.MAX_DETECTIONS`` as the limit."""
        return cls(records, max_masks=max(cfg.EVALUATION.MAX_DETECTIONS))

    def process(self, samples: Sequence[Mapping[str, Any]], outputs: Sequence[MaskSet]) -> None:
        """Give each region of each photo its masks; see `Evaluator.process`."""
        for sample, masks in zip(samples, outputs, strict=True):
            record = self.record_of(sample)
            self.add(record.image_id, self._overlaps(record, masks))

    def measure(self, results: Mapping[int, RegionOverlaps]) -> dict[str, float]:
        """Return the means over all photos, those without a result included."""
        photos = [
            results[key] if key in results else self._overlaps(record, MaskSet.empty(record.size))
            for key, record in sorted(self.records.items())
        ]
        categories = np.concatenate([photo.categories for photo in photos])
        if not categories.size:
            raise DataError(
                "not one annotation to find in the dataset to evaluate on: its "
                f"{len(photos)} photos have none or crowd regions only"
            )
        classes = np.unique(categories)
        overlaps = {
            "best_overlap": np.concatenate([photo.best for photo in photos]),
            "hungarian": np.concatenate([photo.one_to_one for photo in photos]),
        }
        metrics = {f"mIoU_{name}": _mean(values) for name, values in overlaps.items()}
        if classes.size > 1:
            for name, values in overlaps.items():
                of_classes = [_mean(values[categories == number]) for number in classes]
                metrics[f"class_mIoU_{name}"] = _mean(np.array(of_classes))
        return metrics | {"regions": float(categories.size), "classes": float(classes.size)}

    def _overlaps(self, record: ImageRecord, masks: MaskSet) -> RegionOverlaps:
        if masks.size != record.size:
            raise DataError(
                f"{record.file_name}: masks of size {masks.size}, photo of {record.size}"
            )
        regions = [item for item in record.load_annotations() if not is_crowd(item)]
        order = np.argsort(-masks.score, kind="stable")[: self.max_masks]
        overlaps = record.decode(regions).iou(masks.filter(order))
        one_to_one = np.zeros(len(regions))
        rows, columns = linear_sum_assignment(overlaps, maximize=True)
        one_to_one[rows] = overlaps[rows, columns]
        return RegionOverlaps(
            categories=np.array([int(item.get("category_id") or 0) for item in regions], np.int64),
            best=overlaps.max(axis=1, initial=0.0),
            one_to_one=one_to_one,
        )


def _mean(values: np.ndarray) -> float:
    """Return the mean, summed exactly: the order of photos and regions does not show in it."""
    return math.fsum(values.tolist()) / values.size
