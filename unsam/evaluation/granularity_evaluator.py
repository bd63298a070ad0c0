"""Whether a segmenter finds masks of every size and keeps to the granularity it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import torch
from fvcore.common.config import CfgNode

from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation.build import EVALUATORS
from unsam.evaluation.evaluator import Evaluator
from unsam.evaluation.granularity_measures import (
    OCTAVES,
    best_overlaps,
    measured_granularity,
    rank_correlation,
    side_octaves,
)
from unsam.evaluation.prompt_segmenter import PromptSegmenter, is_granular
from unsam.modeling.objectives.nesting import nesting_violation
from unsam.structures import MaskSet

_IOU_LEVELS = np.arange(10, 20) / 20
_STEPS = np.round(np.arange(10, 101) / 100, 2)
"""Measured granularities are counted in steps of 0.01."""


@EVALUATORS.register()
class GranularityEvaluator(Evaluator):
    """Recall by size of the masks, calibration and nesting of granularity, and counts of regions.

    For every segmenter, of its whole-image masks:

    - ``recall@side1/4``: of the true masks whose side length (square root of the area) is from
      1/4 of the photo's up to twice that, the share that any mask meets, mean over the IoUs 0.5,
      0.55, ... 0.95; ``objects@side1/4`` is their number, ``recall`` is over all sizes. Smaller
      than 1/64 is ``side0``. A true mask counts with its best overlap, whatever else meets that
      mask too.

    For segmenters that are asked for a granularity, over a list of granularities g:

    - ``regions@g0.3``: masks per photo when 0.3 is asked for.
    - ``calibration_spearman``: Spearman's rank correlation, over all masks of all photos, of the
      granularity asked for with the one that the mask has by its size within the hierarchy of all
      masks of the photo (`measured_granularity`). Masks whose hierarchy is themselves alone have
      none and are left out.
    - ``calibration_error@g0.3``: mean distance of the two for the masks that 0.3 gave;
      ``calibration_error`` is the mean over g.
    - ``nesting_violation``: for clicks on a grid, the share of the pixels of the answer at a finer
      granularity that lie outside the answer at a coarser one, mean over clicks and all pairs of
      granularities; an empty finer answer violates nothing. The training metric of the same name,
      on the photo's pixels. Only for segmenters that take prompts.

    Each photo is encoded once by segmenters that have ``set_image``.
    """

    drives_segmenter: ClassVar[bool] = True

    def __init__(
        self,
        records: Sequence[ImageRecord],
        *,
        granularities: Sequence[float] = (0.1, 0.3, 0.6, 1.0),
        sweep_photos: int = 100,
        clicks_per_side: int = 8,
        batch_size: int = 64,
        max_masks: int = 1000,
    ) -> None:
        """Set what is asked.

        Args:
            records: the photos of the dataset.
            granularities: at least two, in [0.1, 1]; each costs the masks of the photo once more.
            sweep_photos: granularities are asked for on the first so many photos, 0 for all; the
                recall is over all photos.
            clicks_per_side: rows and columns of the grid of clicks; 0 measures no nesting.
            batch_size: prompts per call of the segmenter.
            max_masks: of the whole-image masks, so many with the best scores count.

        Raises:
            ValueError: fewer than two granularities, one outside [0.1, 1], or numbers below 1.
        """
        super().__init__(records)
        self.granularities = tuple(sorted({float(value) for value in granularities}))
        in_range = all(0.1 <= value <= 1 for value in self.granularities)
        if len(self.granularities) < 2 or not in_range:
            raise ValueError(
                f"granularities must lie in [0.1, 1], at least two: {self.granularities}"
            )
        if min(batch_size, max_masks) < 1 or min(sweep_photos, clicks_per_side) < 0:
            raise ValueError(
                "batch_size and max_masks must be at least 1, sweep_photos and clicks_per_side at "
                f"least 0, got {batch_size}, {max_masks}, {sweep_photos} and {clicks_per_side}"
            )
        swept = records[: sweep_photos or None]
        self.swept = frozenset(record.image_id for record in swept)
        self.clicks_per_side = clicks_per_side
        self.batch_size = batch_size
        self.max_masks = max_masks

    @classmethod
    def from_config(cls, cfg: CfgNode, records: Sequence[ImageRecord]) -> GranularityEvaluator:
        """Build from ``EVALUATION.GRANULARITY_SWEEP`` and ``EVALUATION.MAX_DETECTIONS``."""
        node = cfg.EVALUATION.GRANULARITY_SWEEP
        return cls(
            records,
            granularities=node.GRANULARITIES,
            sweep_photos=node.PHOTOS,
            clicks_per_side=node.CLICKS_PER_SIDE,
            batch_size=node.BATCH_SIZE,
            max_masks=max(cfg.EVALUATION.MAX_DETECTIONS),
        )

    def process(self, samples: Sequence[Mapping[str, Any]], outputs: Any) -> None:
        """Ask about each photo; `outputs` is the segmenter."""
        for sample in samples:
            record = self.record_of(sample)
            image: np.ndarray = np.asarray(sample["image"])
            source: np.ndarray | None = image
            if hasattr(outputs, "set_image"):
                outputs.set_image(image)
                source = None
            found = outputs.generate(source, granularity=None).sort("score")
            truth = record.masks()
            truth = truth.filter(truth.areas > 0)
            if found.size != truth.size:
                raise DataError(
                    f"{record.file_name}: masks of {found.size}, annotations of {truth.size}"
                )
            best = best_overlaps(truth, found.filter(range(min(len(found), self.max_masks))))
            result: dict[str, Any] = {
                "octaves": side_octaves(truth.areas, truth.size).tolist(),
                "overlaps": best.tolist(),
            }
            if record.image_id in self.swept and is_granular(outputs):
                result |= self._sweep(outputs, source)
                if self.clicks_per_side and getattr(outputs, "takes_prompts", False):
                    result["outside"] = self._outside(outputs, truth.size)
            self.add(record.image_id, result)

    def measure(self, results: Mapping[int, Any]) -> dict[str, float]:
        """Put all photos together."""
        octaves = np.array([item for row in results.values() for item in row["octaves"]], int)
        overlaps = np.array([item for row in results.values() for item in row["overlaps"]])
        metrics = {"photos": float(len(results)), "recall": _recall(overlaps)}
        for octave, name in enumerate(_OCTAVE_NAMES):
            chosen = overlaps[octaves == octave]
            metrics[f"recall@{name}"] = _recall(chosen)
            metrics[f"objects@{name}"] = float(len(chosen))
        sweep = self._total(results)
        if sweep is None:
            return metrics
        errors = sweep.errors()
        known = errors[~np.isnan(errors)]
        metrics["sweep_photos"] = float(sweep.photos)
        metrics["calibration_spearman"] = rank_correlation(sweep.counts)
        metrics["calibration_error"] = float(known.mean()) if len(known) else float("nan")
        for place, value in enumerate(self.granularities):
            metrics[f"calibration_error@g{value}"] = float(errors[place])
            metrics[f"regions@g{value}"] = float(sweep.regions[place] / sweep.photos)
        if sweep.violation is not None:
            pairs = np.triu_indices(len(self.granularities), 1)
            metrics["nesting_violation"] = float(sweep.violation[pairs].mean())
        return metrics

    def curves(self, results: Mapping[int, Any]) -> dict[str, dict[str, list[float]]]:
        """Return recall against side length and, against the granularity asked for, the rest.

        ``recall_by_side`` (x: the lower end of the octave, a share of the photo's side),
        ``measured_granularity``, ``calibration_error``, ``regions``, and ``nesting_violation`` of
        the answers at each granularity against all coarser ones.
        """
        metrics = self.measure(results)
        curves = {
            "recall_by_side": {
                "x": [2.0 ** -(octave + 1) for octave in range(OCTAVES - 1)] + [0.0],
                "y": [metrics[f"recall@{name}"] for name in _OCTAVE_NAMES],
            }
        }
        sweep = self._total(results)
        if sweep is None:
            return curves
        asked = list(self.granularities)
        measured = [_mean(row, _STEPS) for row in sweep.counts]
        curves["measured_granularity"] = {"x": asked, "y": measured}
        for name in ("calibration_error", "regions"):
            curves[name] = {"x": asked, "y": [metrics[f"{name}@g{value}"] for value in asked]}
        if sweep.violation is not None:
            finer = [
                float(row[place + 1 :].mean()) for place, row in enumerate(sweep.violation[:-1])
            ]
            curves["nesting_violation"] = {"x": asked[:-1], "y": finer}
        return curves

    def _sweep(self, segmenter: Any, source: np.ndarray | None) -> dict[str, Any]:
        """Ask for the masks of one photo at each granularity.

        Returns:
            ``regions [G]``, the number of masks; ``counts [G, 91]``, of them by measured
            granularity 0.1, 0.11, ... 1.
        """
        answers = []
        for value in self.granularities:
            masks = segmenter.generate(source, granularity=value)
            answers.append(masks.filter(masks.areas > 0))
        measured = measured_granularity(MaskSet.cat(answers))
        owner = np.repeat(np.arange(len(answers)), [len(masks) for masks in answers])
        known = ~np.isnan(measured)
        counts = np.zeros((len(answers), len(_STEPS)), np.int64)
        steps = np.rint(100 * measured[known]).astype(np.int64) - 10
        np.add.at(counts, (owner[known], steps), 1)
        return {"regions": [len(masks) for masks in answers], "counts": counts.tolist()}

    def _outside(self, segmenter: PromptSegmenter, size: tuple[int, int]) -> list[list[float]]:
        """Return the mean nesting violation ``[G, G]``, finer by coarser, over a grid of clicks."""
        sides = (np.arange(self.clicks_per_side) + 0.5) / self.clicks_per_side
        y, x = np.meshgrid(np.floor(sides * size[0]), np.floor(sides * size[1]), indexing="ij")
        points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)[:, None]
        count = len(self.granularities)
        total = np.zeros((count, count))
        step = max(1, self.batch_size // count)
        for start in range(0, len(points), step):
            some = np.repeat(points[start : start + step], count, axis=0)
            asked = np.tile(np.array(self.granularities, np.float32), len(some) // count)
            labels = np.ones((len(some), 1), np.int64)
            answers, _, _ = segmenter.predict_batch(
                points=some, labels=labels, mask_logits=None, granularity=asked
            )
            masks = torch.as_tensor(answers).bool()
            masks = masks.unflatten(0, (-1, count))
            for finer, coarser in combinations(range(count), 2):
                outside = nesting_violation(masks[:, finer], masks[:, coarser])
                total[finer, coarser] += float(outside.double().sum())
        return (total / len(points)).tolist()

    def _total(self, results: Mapping[int, Any]) -> _SweepTotal | None:
        """Add up the photos with a sweep, None if there are none."""
        swept = [row for row in results.values() if "counts" in row]
        if not swept:
            return None
        outside = [row["outside"] for row in swept if "outside" in row]
        return _SweepTotal(
            granularities=np.array(self.granularities),
            photos=len(swept),
            regions=np.sum([row["regions"] for row in swept], axis=0),
            counts=np.sum([row["counts"] for row in swept], axis=0),
            violation=np.mean(outside, axis=0) if outside else None,
        )


@dataclass(frozen=True)
class _SweepTotal:
    """All photos of a sweep over G granularities.

    Attributes:
        granularities: ``[G]``, ascending.
        photos: how many.
        regions: ``int64 [G]``, the masks of all photos.
        counts: ``int64 [G, 91]``, masks by measured granularity.
        violation: ``float64 [G, G]``, finer by coarser, mean over photos; None if not measured.
    """

    granularities: np.ndarray
    photos: int
    regions: np.ndarray
    counts: np.ndarray
    violation: np.ndarray | None

    def errors(self) -> np.ndarray:
        """Return the mean distance of measured from asked, ``float64 [G]``, NaN without masks."""
        pairs = zip(self.counts, self.granularities, strict=True)
        return np.array([_mean(row, np.abs(_STEPS - value)) for row, value in pairs])


_OCTAVE_NAMES = (*(f"side1/{2 ** (octave + 1)}" for octave in range(OCTAVES - 1)), "side0")


def _recall(overlaps: np.ndarray) -> float:
    """Return the mean over the IoU levels of the share of overlaps that reach it, NaN of none."""
    if not len(overlaps):
        return float("nan")
    return float((overlaps[:, None] >= _IOU_LEVELS).mean())


def _mean(counts: np.ndarray, values: np.ndarray) -> float:
    """Return the mean of values that occur so many times, NaN if none does."""
    total = int(counts.sum())
    return float(counts @ values) / total if total else float("nan")
