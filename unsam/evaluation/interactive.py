"""Interactive segmentation: how many clicks an object takes (NoC) and how far one click gets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from fvcore.common.config import CfgNode

from unsam.data import ImageRecord
from unsam.data.datasets.record import is_crowd
from unsam.errors import ConfigError, DataError
from unsam.evaluation.build import EVALUATORS
from unsam.evaluation.clicks import (
    IGNORED,
    ClickTrace,
    best_granularity,
    iou_with_truth,
    next_click,
)
from unsam.evaluation.evaluator import Evaluator
from unsam.evaluation.prompt_segmenter import PromptSegmenter, is_granular

TEN_GRANULARITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass
class _Session:
    """One object clicked at one granularity, None where the segmenter knows none.

    `confidence` is the predicted quality of the answer to the first click.
    """

    granularity: float | None
    truth: np.ndarray
    prediction: np.ndarray
    trace: ClickTrace = field(default_factory=ClickTrace)
    confidence: float = 0.0
    logits: torch.Tensor | None = None


# IoU after each click, under the name of a column: "{}@g0.3" has the numbers noc80@g0.3, ...
_Columns = dict[str, list[float]]
_PREDICTED = "{}@predicted"
_ORACLE = "oracle_{}"
_NOT_GRANULAR = "{}"


@EVALUATORS.register()
class InteractiveEvaluator(Evaluator):
    """Number of clicks to an IoU (NoC) and IoU after one click, under GraCo's protocol.

    Three columns, never mixed:

    - ``...@g0.3``: that granularity for every object.
    - ``...@predicted``: after the first click the answers at ten granularities are compared, and
      the one of the highest predicted quality (ties: the finer) sets the granularity of this
      object's later clicks. A user without any idea of granularity could do this.
    - ``oracle_...``: for each object, the granularity of the ten that needs the fewest clicks
      (ties: the higher first IoU, then the finer). That choice looks at the truth, as the
      published UnSAMv2 numbers do; no user can make it.

    A segmenter that is not granular (SAM) has one column without a mark, ``noc80``.

    ``noc80`` is the mean number of clicks to IoU 0.8, counted as the limit where it is never
    reached; ``iou1`` is the mean IoU after the first click. ``failures80`` counts the objects that
    take the limit, those that reach the IoU with the very last click included, as the published
    ">= 20" does; ``unreached80`` counts only those that never reach it.

    All objects and granularities of a photo are clicked in step, so that each round of clicks is
    one batch; the photo is encoded once. Pixels of crowd regions outside the object are ignored.
    """

    drives_segmenter: ClassVar[bool] = True
    needs_prompts: ClassVar[bool] = True

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
            oracle_granularities: what the ``@predicted`` and the ``oracle_`` numbers choose from;
                empty leaves both out.
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
        """Click on the objects of each photo; `outputs` is the segmenter.

        Raises:
            ConfigError: its model takes one click and no more (the promptable UnSAM).
        """
        model = getattr(outputs, "model", None)
        if self.max_clicks > 1 and not getattr(model, "takes_masks", True):
            raise ConfigError(
                f"{type(model).__name__} cannot improve an answer by more clicks; set "
                "EVALUATION.INTERACTIVE.MAX_CLICKS to 1"
            )
        for sample in samples:
            record = self.record_of(sample)
            truths = self._choose_objects(record)
            if truths:
                outputs.set_image(np.asarray(sample["image"]))
            self.add(record.image_id, self._click_all(truths, outputs))

    def measure(self, results: Mapping[int, Any]) -> dict[str, float]:
        """Average over all objects of all photos."""
        objects: list[_Columns] = [item for rows in results.values() for item in rows]
        if not objects:
            raise DataError(f"no object of at least {self.min_area} pixels to click on")
        metrics: dict[str, float] = {}
        for column in objects[0]:
            metrics |= self._summary([item[column] for item in objects], column)
        return metrics | {"photos": float(len(results)), "objects": float(len(objects))}

    def curves(self, results: Mapping[int, Any]) -> dict[str, dict[str, list[float]]]:
        """Return the mean IoU after 1, 2, ... clicks of each column (``iou_by_click@g0.3``).

        An object that is done keeps its last IoU.
        """
        objects: list[_Columns] = [item for rows in results.values() for item in rows]
        numbers = np.arange(self.max_clicks)
        curves = {}
        for column in objects[0] if objects else ():
            rows = [
                np.array(item[column])[np.minimum(numbers, len(item[column]) - 1)]
                for item in objects
            ]
            curves[column.format("iou_by_click")] = {
                "x": (numbers + 1.0).tolist(),
                "y": np.mean(rows, axis=0).tolist(),
            }
        return curves

    def _summary(self, ious: list[list[float]], column: str) -> dict[str, float]:
        row = {column.format("iou1"): float(np.mean([item[0] for item in ious]))}
        traces = [ClickTrace(ious=item) for item in ious]
        for target in self.targets:
            clicks = np.array([trace.clicks_to(target, self.max_clicks) for trace in traces])
            unreached = sum(max(item) < target for item in ious)
            percent = round(100 * target)
            row[column.format(f"noc{percent}")] = float(clicks.mean())
            row[column.format(f"failures{percent}")] = float((clicks >= self.max_clicks).sum())
            row[column.format(f"unreached{percent}")] = float(unreached)
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

    def _click_all(self, truths: list[np.ndarray], segmenter: PromptSegmenter) -> list[_Columns]:
        """Click on all objects at all granularities, one round at a time.

        Returns:
            The columns of each object.
        """
        values: Sequence[float | None] = (None,)
        if is_granular(segmenter):
            values = sorted({*self.granularities, *self.oracle_granularities})
        objects = [
            [_Session(value, truth, np.zeros(truth.shape, bool)) for value in values]
            for truth in truths
        ]
        active = [session for sessions in objects for session in sessions]
        while active:
            for start in range(0, len(active), self.batch_size):
                self._click_once(active[start : start + self.batch_size], segmenter)
            active = [item for sessions in objects for item in self._unfinished(sessions)]
        return [self._columns(sessions) for sessions in objects]

    def _is_done(self, session: _Session) -> bool:
        return session.trace.is_done(self.targets[-1], self.max_clicks)

    def _predicted(self, sessions: list[_Session]) -> float | None:
        """Return the granularity of the most confident first answer, None if there is no choice."""
        offered = [item for item in sessions if item.granularity in self.oracle_granularities]
        return max(offered, key=lambda item: item.confidence).granularity if offered else None

    def _unfinished(self, sessions: list[_Session]) -> list[_Session]:
        """Return the sessions of one object that some column needs to go on.

        A granularity that only the oracle asks for is given up once another one is done.
        """
        oracle = self.oracle_granularities
        needed = {*self.granularities, self._predicted(sessions)}
        if not any(self._is_done(item) for item in sessions if item.granularity in oracle):
            needed |= {*oracle}
        return [item for item in sessions if item.granularity in needed and not self._is_done(item)]

    def _columns(self, sessions: list[_Session]) -> _Columns:
        """Return the columns of one object whose sessions are over."""
        traces = {item.granularity: item.trace for item in sessions}
        if None in traces:
            return {_NOT_GRANULAR: traces[None].ious}
        columns = {f"{{}}@g{value}": traces[value].ious for value in self.granularities}
        if self.oracle_granularities:
            columns[_PREDICTED] = traces[self._predicted(sessions)].ious
            done = [
                (value, traces[value])
                for value in self.oracle_granularities
                if traces[value].is_done(self.targets[-1], self.max_clicks)
            ]
            columns[_ORACLE] = best_granularity(done)[1].ious
        return columns

    def _click_once(self, sessions: list[_Session], segmenter: PromptSegmenter) -> None:
        """Make the next click in each session; all have had equally many."""
        for session in sessions:
            clicks = session.trace.clicks
            clicks.append(next_click(session.prediction, session.truth, clicks))
        history = [session.trace.clicks for session in sessions]
        points = np.array([[(c.x, c.y) for c in clicks] for clicks in history], np.float32)
        labels = np.array([[c.positive for c in clicks] for clicks in history], np.int64)
        before = [session.logits for session in sessions if session.logits is not None]
        asked = [session.granularity for session in sessions]
        masks, quality, logits = segmenter.predict_batch(
            points=points,
            labels=labels,
            mask_logits=torch.stack(before) if before else None,
            granularity=None if None in asked else np.array(asked, np.float32),
        )
        answers = torch.as_tensor(masks).cpu().numpy().astype(bool, copy=False)
        confidence = torch.as_tensor(quality).tolist()
        rows = torch.as_tensor(logits)
        for session, answer, worth, row in zip(sessions, answers, confidence, rows, strict=True):
            if not session.trace.ious:
                session.confidence = worth
            session.prediction = answer
            session.logits = row
            session.trace.ious.append(iou_with_truth(answer, session.truth))
