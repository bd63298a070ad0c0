"""Interactive segmentation: how many clicks an object takes (NoC) and how far one click gets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from fvcore.common.config import CfgNode

from unsam.data import ImageRecord
from unsam.data.datasets.record import is_crowd
from unsam.errors import DataError
from unsam.evaluation.build import EVALUATORS
from unsam.evaluation.clicks import (
    IGNORED,
    ClickTrace,
    best_granularity,
    iou_with_truth,
    next_click,
)
from unsam.evaluation.evaluator import Evaluator

TEN_GRANULARITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@runtime_checkable
class PromptSegmenter(Protocol):
    """What the interactive evaluator asks of a segmenter.

    Attributes:
        takes_prompts: whether the model behind it does.
    """

    takes_prompts: bool

    def set_image(self, image: np.ndarray) -> Any:
        """Encode one photo, ``uint8 [H, W, 3]``, for the calls that follow."""

    def predict_batch(
        self, points: Any, labels: Any, mask_logits: Any, granularity: Any
    ) -> tuple[Any, Any, Any]:
        """Answer P independent prompts on the photo in one go.

        Args:
            points: ``float32 [P, K, 2]``, x and y in pixels of the photo.
            labels: ``int64 [P, K]``, 1 on the object, 0 off it, -1 padding.
            mask_logits: ``[P, h, w]`` as returned for the same objects one click ago, or None.
            granularity: ``float32 [P]`` in [0.1, 1].

        Returns:
            ``(masks bool [P, H, W], quality [P], logits [P, h, w])``.
        """


@dataclass
class _Session:
    """One object clicked at one granularity."""

    owner: int
    granularity: float
    truth: np.ndarray
    prediction: np.ndarray
    trace: ClickTrace = field(default_factory=ClickTrace)
    logits: torch.Tensor | None = None


@EVALUATORS.register()
class InteractiveEvaluator(Evaluator):
    """Number of clicks to an IoU (NoC) and IoU after one click, under GraCo's protocol.

    Numbers named ``...@g0.3`` use that granularity for every object. Numbers named ``oracle_...``
    take, for each object, the granularity of a list that needs the fewest clicks (ties: the higher
    first IoU, then the finer). That choice looks at the truth, as the published UnSAMv2 numbers
    do; no user can make it. ``noc80`` is the mean number of clicks to IoU 0.8, counted as the
    limit where it is never reached; ``failures80`` counts those at the limit; ``iou1`` is the mean
    IoU after the first click.

    All objects and granularities of a photo are clicked in step, so that each round of clicks is
    one batch; the photo is encoded once. Pixels of crowd regions outside the object are ignored.
    """

    drives_segmenter: ClassVar[bool] = True

    def __init__(
        self,
        records: Sequence[ImageRecord],
        *,
        granularities: Sequence[float] = (0.3, 0.5, 1.0),
        oracle_granularities: Sequence[float] = TEN_GRANULARITIES,
        targets: Sequence[float] = (0.8, 0.85, 0.9),
        max_clicks: int = 20,
        max_objects: int = 10,
        min_area: int = 100,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        """Set the protocol.

        Args:
            records: the photos of the dataset.
            granularities: each gives numbers of its own.
            oracle_granularities: the best of these gives the ``oracle_`` numbers; may be empty.
            targets: IoUs; clicking stops at the largest.
            max_clicks: limit per object.
            max_objects: objects per photo, 0 for all. The choice is a hash of each mask and
                `seed`: the order and the ids of the annotations do not matter.
            min_area: smaller objects, in pixels, are left out.
            batch_size: prompts per call of the segmenter.
            seed: see `max_objects`.
        """
        super().__init__(records)
        self.granularities = tuple(float(value) for value in granularities)
        self.oracle_granularities = tuple(float(value) for value in oracle_granularities)
        self.targets = tuple(sorted(float(value) for value in targets))
        everything = (*self.granularities, *self.oracle_granularities)
        if not everything or not all(0.1 <= value <= 1.0 for value in everything):
            raise ValueError(f"granularities must lie in [0.1, 1], at least one: {everything}")
        if not self.targets or max_clicks < 1 or batch_size < 1:
            raise ValueError("targets, max_clicks and batch_size must not be empty or zero")
        self.max_clicks = max_clicks
        self.max_objects = max_objects
        self.min_area = min_area
        self.batch_size = batch_size
        self.seed = seed

    @classmethod
    def from_config(cls, cfg: CfgNode, records: Sequence[ImageRecord]) -> InteractiveEvaluator:
        """Build from ``EVALUATION.INTERACTIVE``."""
        node = cfg.EVALUATION.INTERACTIVE
        return cls(
            records,
            granularities=node.GRANULARITIES,
            oracle_granularities=node.ORACLE_GRANULARITIES,
            targets=node.TARGETS,
            max_clicks=node.MAX_CLICKS,
            max_objects=node.MAX_OBJECTS,
            min_area=node.MIN_AREA,
            batch_size=node.BATCH_SIZE,
            seed=node.SEED,
        )

    def process(self, samples: Sequence[Mapping[str, Any]], outputs: PromptSegmenter) -> None:
        """Click on the objects of each photo; `outputs` is the segmenter."""
        for sample in samples:
            record = self.record_of(sample)
            truths = self._choose_objects(record)
            if truths:
                outputs.set_image(np.asarray(sample["image"]))
            self.add(record.image_id, self._click_all(truths, outputs))

    def measure(self, results: Mapping[int, Any]) -> dict[str, float]:
        """Average over all objects of all photos."""
        objects: list[dict[float, ClickTrace]] = [
            item for rows in results.values() for item in rows
        ]
        if not objects:
            raise DataError(f"no object of at least {self.min_area} pixels to click on")
        metrics: dict[str, float] = {}
        for value in self.granularities:
            traces = [item[value] for item in objects]
            metrics |= self._summary(traces, "", f"@g{value}")
        if self.oracle_granularities:
            offered = [
                [(g, item[g]) for g in self.oracle_granularities if g in item] for item in objects
            ]
            metrics |= self._summary([best_granularity(row)[1] for row in offered], "oracle_", "")
        return metrics | {"photos": float(len(results)), "objects": float(len(objects))}

    def _summary(self, traces: list[ClickTrace], prefix: str, suffix: str) -> dict[str, float]:
        row = {f"{prefix}iou1{suffix}": float(np.mean([trace.ious[0] for trace in traces]))}
        for target in self.targets:
            clicks = np.array([trace.clicks_to(target, self.max_clicks) for trace in traces])
            name = f"{round(100 * target)}{suffix}"
            row[f"{prefix}noc{name}"] = float(clicks.mean())
            row[f"{prefix}failures{name}"] = float((clicks >= self.max_clicks).sum())
        return row

    def _choose_objects(self, record: ImageRecord) -> list[np.ndarray]:
        """Return the truth ``int8 [H, W]`` (1, 0, -1 ignored) of each object to click on."""
        annotations = record.load_annotations()
        masks = record.decode([item for item in annotations if not is_crowd(item)])
        masks = masks.filter(masks.areas >= max(self.min_area, 1))
        salt = str(self.seed).encode()
        lottery = [hashlib.sha256(salt + rle["counts"]).digest() for rle in masks.rles]
        order = sorted(range(len(masks)), key=lottery.__getitem__)
        if self.max_objects:
            order = order[: self.max_objects]
        ignored = np.zeros(record.size, bool)
        for region in record.decode([item for item in annotations if is_crowd(item)]).masks():
            ignored |= region
        background = np.where(ignored, IGNORED, 0).astype(np.int8)
        return [np.where(masks.mask(index), np.int8(1), background) for index in order]

    def _click_all(
        self, truths: list[np.ndarray], segmenter: PromptSegmenter
    ) -> list[dict[float, ClickTrace]]:
        """Click on all objects at all granularities, one round at a time.

        Returns:
            For each object, granularity -> trace. A granularity that only the oracle asks for is
            absent where it was given up, being slower than another one.
        """
        values = sorted({*self.granularities, *self.oracle_granularities})
        active = [
            _Session(owner, value, truth, np.zeros(truth.shape, bool))
            for owner, truth in enumerate(truths)
            for value in values
        ]
        finished: list[dict[float, ClickTrace]] = [{} for _ in truths]
        while active:
            for start in range(0, len(active), self.batch_size):
                self._click_once(active[start : start + self.batch_size], segmenter)
            settled: set[int] = set()
            for session in active:
                if session.trace.is_done(self.targets[-1], self.max_clicks):
                    finished[session.owner][session.granularity] = session.trace
                    if session.granularity in self.oracle_granularities:
                        settled.add(session.owner)
            active = [
                session
                for session in active
                if session.granularity not in finished[session.owner]
                and (session.granularity in self.granularities or session.owner not in settled)
            ]
        return finished

    def _click_once(self, sessions: list[_Session], segmenter: PromptSegmenter) -> None:
        """Make the next click in each session; all have had equally many."""
        for session in sessions:
            clicks = session.trace.clicks
            clicks.append(next_click(session.prediction, session.truth, clicks))
        history = [session.trace.clicks for session in sessions]
        points = np.array([[(c.x, c.y) for c in clicks] for clicks in history], np.float32)
        labels = np.array([[c.positive for c in clicks] for clicks in history], np.int64)
        before = [session.logits for session in sessions if session.logits is not None]
        masks, _, logits = segmenter.predict_batch(
            points=points,
            labels=labels,
            mask_logits=torch.stack(before) if before else None,
            granularity=np.array([session.granularity for session in sessions], np.float32),
        )
        answers = torch.as_tensor(masks).cpu().numpy().astype(bool, copy=False)
        for session, answer, row in zip(sessions, answers, torch.as_tensor(logits), strict=True):
            session.prediction = answer
            session.logits = row
            session.trace.ious.append(iou_with_truth(answer, session.truth))
