"""Point(Max) and Point(Oracle): how well one click in the middle segments every segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from fvcore.common.config import CfgNode

from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation.build import EVALUATORS
from unsam.evaluation.clicks import Click, iou_with_truth, next_click
from unsam.evaluation.evaluator import Evaluator
from unsam.evaluation.interactive import TEN_GRANULARITIES
from unsam.evaluation.prompt_segmenter import PromptSegmenter, is_granular


@EVALUATORS.register()
class PointEvaluator(Evaluator):
    """One click per segment, several answers: IoU of the most confident and of the best one.

    The protocol of Semantic-SAM, by which UnSAM's table 5 measures on the panoptic segments of
    COCO: every segment but crowds, things and stuff, is clicked once at the maximum of its
    distance transform; ``point_max`` is the IoU of the answer of the highest predicted quality
    (ties: the first), ``point_oracle`` that of the answer with the highest IoU, which looks at the
    truth. Both are means over all segments, not over photos.

    The answers are those of one granularity each if the segmenter is granular, otherwise all that
    its model gives for a click (six of Semantic-SAM and the promptable UnSAM, three of SAM).

    Two differences from the published code: the distance transform is exact, not approximate, and
    click and IoU are taken on the photo's own pixels, not on the resized input.
    """

    drives_segmenter: ClassVar[bool] = True
    needs_prompts: ClassVar[bool] = True

    def __init__(
        self,
        records: Sequence[ImageRecord],
        *,
        granularities: Sequence[float] = TEN_GRANULARITIES,
        batch_size: int = 64,
    ) -> None:
        """Set the protocol.

        Args:
            records: the photos of the dataset.
            granularities: of the answers of granular segmenters, in [0.1, 1].
            batch_size: prompts per call of a granular segmenter.

        Raises:
            ValueError: no granularity, one outside [0.1, 1], or no prompt per call.
        """
        super().__init__(records)
        self.granularities = tuple(float(value) for value in granularities)
        if not self.granularities or not all(0.1 <= value <= 1 for value in self.granularities):
            raise ValueError(
                f"granularities must lie in [0.1, 1], at least one: {self.granularities}"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size

    @classmethod
    def from_config(cls, cfg: CfgNode, records: Sequence[ImageRecord]) -> PointEvaluator:
        """Build from ``EVALUATION.POINT``."""
        node = cfg.EVALUATION.POINT
        return cls(records, granularities=node.GRANULARITIES, batch_size=node.BATCH_SIZE)

    def process(self, samples: Sequence[Mapping[str, Any]], outputs: PromptSegmenter) -> None:
        """Click on the segments of each photo; `outputs` is the segmenter."""
        for sample in samples:
            record = self.record_of(sample)
            truth = record.masks()
            truth = truth.filter(truth.areas > 0)
            if len(truth):
                outputs.set_image(np.asarray(sample["image"]))
            ask = self._at_granularities if is_granular(outputs) else _all_answers
            rows: list[list[float]] = []
            step = max(1, self.batch_size // len(self.granularities))
            for start in range(0, len(truth), step):
                some = truth.filter(range(start, min(start + step, len(truth))))
                targets = [target.astype(np.int8) for target in some.masks()]
                clicks = [next_click(np.zeros(some.size, bool), target) for target in targets]
                answers = ask(outputs, clicks)
                rows += [
                    _ious(*answer, target) for answer, target in zip(answers, targets, strict=True)
                ]
            self.add(record.image_id, rows)

    def measure(self, results: Mapping[int, Any]) -> dict[str, float]:
        """Average over all segments of all photos."""
        ious = _stacked(results)
        if not len(ious):
            raise DataError("no segment to click on in any photo")
        most_confident, best = ious.mean(0).tolist()
        return {
            "point_max": most_confident,
            "point_oracle": best,
            "photos": float(len(results)),
            "segments": float(len(ious)),
        }

    def curves(self, results: Mapping[int, Any]) -> dict[str, dict[str, list[float]]]:
        """Return the share of segments whose IoU is at least 0, 0.05, ... 1."""
        ious = _stacked(results)
        if not len(ious):
            return {}
        levels = np.arange(21) / 20
        shares = (ious[:, :, None] >= levels).mean(0)
        return {
            name: {"x": levels.tolist(), "y": share.tolist()}
            for name, share in zip(("point_max", "point_oracle"), shares, strict=True)
        }

    def _at_granularities(
        self, segmenter: PromptSegmenter, clicks: list[Click]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return masks ``[G, H, W]`` and quality ``[G]`` for each click, in one call."""
        count = len(self.granularities)
        points = np.array([[(click.x, click.y)] for click in clicks], np.float32)
        masks, quality, _ = segmenter.predict_batch(
            points=np.repeat(points, count, axis=0),
            labels=np.ones((len(clicks) * count, 1), np.int64),
            mask_logits=None,
            granularity=np.tile(np.array(self.granularities, np.float32), len(clicks)),
        )
        answers = torch.as_tensor(masks).cpu().numpy().astype(bool, copy=False)
        worth = torch.as_tensor(quality).float().cpu().numpy()
        places = [slice(first, first + count) for first in range(0, len(worth), count)]
        return [(answers[place], worth[place]) for place in places]


def _all_answers(segmenter: Any, clicks: list[Click]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return masks ``[M, H, W]`` and quality ``[M]`` for each click, all that the model has."""
    predictions = [segmenter.predict(points=[[click.x, click.y]]) for click in clicks]
    return [(prediction.masks, prediction.quality) for prediction in predictions]


def _ious(masks: np.ndarray, quality: np.ndarray, target: np.ndarray) -> list[float]:
    """Return the IoU of the most confident and of the best answer."""
    ious = [iou_with_truth(mask, target) for mask in masks]
    return [ious[int(np.argmax(quality))], max(ious)]


def _stacked(results: Mapping[int, Any]) -> np.ndarray:
    """Return the IoUs of all segments, ``float64 [N, 2]``."""
    return np.array([row for rows in results.values() for row in rows]).reshape(-1, 2)
