"""The region benchmark of BSDS500 for anything that gives masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation.build import EVALUATORS
from unsam.evaluation.evaluator import Evaluator
from unsam.evaluation.partitions.annotators import annotator_partitions
from unsam.evaluation.partitions.levels import granularity_partitions
from unsam.evaluation.partitions.region_scores import PhotoRegions, region_scores, score_partitions
from unsam.structures import MaskSet

GRANULARITIES = tuple(round(0.1 + 0.05 * step, 2) for step in range(19))


@EVALUATORS.register()
class RegionEvaluator(Evaluator):
    """Covering, Rand index and variation of information (Arbelaez et al., PAMI 2011).

    Scores are at the best common granularity (ODS) and at each photo's own (OIS). The levels of a
    result are its partitions by granularity (`granularity_partitions`), in the place of the
    thresholds of a contour map. The truth is each annotator's segmentation; a dataset without
    annotators has one, the arrangement of all masks. Photos without a result count as one region.
    """

    def __init__(
        self, records: Sequence[ImageRecord], *, granularities: Sequence[float] = GRANULARITIES
    ) -> None:
        """Set up.

        Args:
            records: the photos.
            granularities: the levels, each in [0.1, 1].

        Raises:
            ValueError: none, or one outside of that range.
        """
        super().__init__(records)
        self.granularities = [float(value) for value in granularities]
        if not self.granularities or not all(0.1 <= g <= 1 for g in self.granularities):
            raise ValueError(f"granularities must be numbers in [0.1, 1], got {granularities!r}")

    @classmethod
    def from_config(cls, cfg: CfgNode, records: Sequence[ImageRecord]) -> RegionEvaluator:
        """Build from ``EVALUATION.REGIONS``."""
        return cls(records, granularities=cfg.EVALUATION.REGIONS.GRANULARITIES)

    def process(self, samples: Sequence[Mapping[str, Any]], outputs: Sequence[MaskSet]) -> None:
        """Keep a `PhotoRegions` of each photo; see `Evaluator.process`."""
        for sample, masks in zip(samples, outputs, strict=True):
            record = self.record_of(sample)
            if masks.size != record.size:
                raise DataError(
                    f"{record.file_name}: masks of size {masks.size}, photo of {record.size}"
                )
            self.add(record.image_id, self._score(record, masks))

    def measure(self, results: Mapping[int, PhotoRegions]) -> dict[str, float]:
        """Return the scores over all photos of the dataset."""
        return region_scores(self._all_photos(results), self.granularities)

    def curves(self, results: Mapping[int, PhotoRegions]) -> dict[str, dict[str, list[float]]]:
        """Return each measure over the granularity."""
        photos = self._all_photos(results)
        tables = np.stack([item.levels for item in photos])
        values = {
            "covering": tables[:, :, 0].sum(axis=0) / sum(item.area for item in photos),
            "PRI": tables[:, :, 1].mean(axis=0),
            "VI": tables[:, :, 2].mean(axis=0),
        }
        return {
            f"{name}_by_granularity": {"x": self.granularities, "y": value.tolist()}
            for name, value in values.items()
        }

    def _score(self, record: ImageRecord, masks: MaskSet) -> PhotoRegions:
        partitions = granularity_partitions(masks, self.granularities)
        return score_partitions(partitions, annotator_partitions(record))

    def _all_photos(self, results: Mapping[int, PhotoRegions]) -> list[PhotoRegions]:
        return [
            results[image_id]
            if image_id in results
            else self._score(record, MaskSet.empty(record.size))
            for image_id, record in sorted(self.records.items())
        ]
