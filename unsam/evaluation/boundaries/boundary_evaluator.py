"""The boundary benchmark of BSDS500 for anything that gives masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation.boundaries.boundary_map import label_boundaries, mask_strength
from unsam.evaluation.boundaries.boundary_scores import (
    average_precision,
    best_counts,
    best_point,
    boundary_counts,
    f_measure,
    recall_and_precision,
)
from unsam.evaluation.boundaries.correspondence import TOLERANCE
from unsam.evaluation.build import EVALUATORS
from unsam.evaluation.evaluator import Evaluator
from unsam.evaluation.partitions.annotators import annotator_partitions
from unsam.structures import MaskSet


@EVALUATORS.register()
class BoundaryEvaluator(Evaluator):
    """Boundary precision, recall and F by the protocol of BSDS500 (Arbelaez et al., PAMI 2011).

    Scores are at the best common threshold (ODS) and at each photo's own (OIS), and the average
    precision. The boundary strength of a result is that of its scored masks (`mask_strength`). The
    truth is each annotator's segmentation; a dataset without annotators has one, made of all masks.
    Photos without a result count as results without a boundary.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        *,
        num_thresholds: int = 99,
        tolerance: float = TOLERANCE,
    ) -> None:
        """Set up.

        Args:
            records: the photos.
            num_thresholds: evenly from 0.01 to 0.99, at least 2.
            tolerance: largest distance of a match, as a share of the photo's diagonal.

        Raises:
            ValueError: fewer thresholds, or a tolerance outside (0, 1).
        """
        super().__init__(records)
        if num_thresholds < 2 or not 0 < tolerance < 1:
            raise ValueError(
                "boundaries need 2 thresholds or more and a tolerance between 0 and 1, got "
                f"{num_thresholds} and {tolerance}"
            )
        self.thresholds = np.linspace(0.01, 0.99, num_thresholds)
        self.tolerance = tolerance

    @classmethod
    def from_config(cls, cfg: CfgNode, records: Sequence[ImageRecord]) -> BoundaryEvaluator:
        """Build from ``EVALUATION.BOUNDARIES``."""
        node = cfg.EVALUATION.BOUNDARIES
        return cls(records, num_thresholds=node.NUM_THRESHOLDS, tolerance=node.TOLERANCE)

    def process(self, samples: Sequence[Mapping[str, Any]], outputs: Sequence[MaskSet]) -> None:
        """Keep the counts of each photo, ``int64 [K, 4]``; see `Evaluator.process`."""
        for sample, masks in zip(samples, outputs, strict=True):
            record = self.record_of(sample)
            if masks.size != record.size:
                raise DataError(
                    f"{record.file_name}: masks of size {masks.size}, photo of {record.size}"
                )
            self.add(record.image_id, self._counts(record, masks))

    def measure(self, results: Mapping[int, np.ndarray]) -> dict[str, float]:
        """Return the scores over all photos of the dataset."""
        counts = self._all_counts(results)
        ods = best_point(counts.sum(axis=0), self.thresholds)
        recall, precision = recall_and_precision(
            np.sum([best_counts(item) for item in counts], axis=0)
        )
        return {
            "boundary_ODS_F": ods.f,
            "boundary_ODS_precision": ods.precision,
            "boundary_ODS_recall": ods.recall,
            "boundary_ODS_threshold": ods.threshold,
            "boundary_OIS_F": float(f_measure(recall, precision)),
            "boundary_OIS_precision": float(precision),
            "boundary_OIS_recall": float(recall),
            "boundary_AP": average_precision(counts.sum(axis=0)),
        }

    def curves(self, results: Mapping[int, np.ndarray]) -> dict[str, dict[str, list[float]]]:
        """Return precision over recall, one point per threshold."""
        recall, precision = recall_and_precision(self._all_counts(results).sum(axis=0))
        return {"boundary_precision_recall": {"x": recall.tolist(), "y": precision.tolist()}}

    def _counts(self, record: ImageRecord, masks: MaskSet) -> np.ndarray:
        people = [label_boundaries(labels) for labels in annotator_partitions(record)]
        return boundary_counts(mask_strength(masks), people, self.thresholds, self.tolerance)

    def _all_counts(self, results: Mapping[int, np.ndarray]) -> np.ndarray:
        """Return the counts of all photos, ``int64 [photos, K, 4]``."""
        return np.stack(
            [
                results[image_id]
                if image_id in results
                else self._counts(record, MaskSet.empty(record.size))
                for image_id, record in sorted(self.records.items())
            ]
        )
