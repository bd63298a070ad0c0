"""Running a segmenter, trained or classical, over datasets and through evaluators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from fvcore.common.config import CfgNode
from tqdm import tqdm

from unsam.data import ImageRecord, get_dataset
from unsam.errors import ConfigError, DataError
from unsam.evaluation.build import build_evaluator, build_segmenter
from unsam.evaluation.evaluator import Evaluator, raise_on_every_rank, rank_and_world
from unsam.evaluation.interactive import PromptSegmenter
from unsam.evaluation.results import Results
from unsam.evaluation.stored_masks import StoredMasks
from unsam.structures import MaskSet

MODEL = "model"
"""The value of ``EVALUATION.SEGMENTER`` that stands for the trained model."""


class WholeImageSegmenter(Protocol):
    """Anything that gives the masks of a photo."""

    def generate(
        self, image: np.ndarray, granularity: float | Sequence[float] | None = None
    ) -> MaskSet:
        """Return the masks of ``uint8 [H, W, 3]``, at one, several or (None) all granularities."""


def evaluate(cfg: CfgNode, segmenter: Any = None) -> Results:
    """Run every evaluator of ``EVALUATION.EVALUATORS`` on every dataset of ``DATASETS.TEST``.

    Collective under torchrun: each rank takes its share of the photos, all get all numbers.

    Args:
        cfg: the config.
        segmenter: the trained model's segmenter; None builds the classical one that
            ``EVALUATION.SEGMENTER`` names.

    Returns:
        Dataset -> evaluator -> metric -> value.

    Raises:
        ConfigError: no dataset, no evaluator, no segmenter, or one that takes no clicks where
            they are asked for.
        DataError: a dataset or photo cannot be used.
    """
    node = cfg.EVALUATION
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty; name a dataset, e.g. bsds500_val_distinct")
    if not node.EVALUATORS:
        raise ConfigError("EVALUATION.EVALUATORS is empty; name one, e.g. AverageRecallEvaluator")
    if segmenter is None:
        if node.SEGMENTER == MODEL:
            raise ConfigError(
                "EVALUATION.SEGMENTER is 'model' but no model is given; set MODEL.WEIGHTS to a "
                "checkpoint or choose a baseline, e.g. EVALUATION.SEGMENTER Felzenszwalb"
            )
        segmenter = build_segmenter(cfg)
    results: Results = {}
    for name in cfg.DATASETS.TEST:
        records = get_dataset(name, cfg.DATASETS.IMAGE_ROOT)
        if node.MAX_IMAGES:
            records = records[: node.MAX_IMAGES]
        evaluators = {item: build_evaluator(item, cfg, records) for item in node.EVALUATORS}
        granularity = list(node.GRANULARITY) or None
        results[name] = evaluate_dataset(
            segmenter, records, evaluators, granularity=granularity, title=name
        )
    return results


def evaluate_dataset(
    segmenter: Any,
    records: Sequence[ImageRecord],
    evaluators: dict[str, Evaluator],
    *,
    granularity: float | Sequence[float] | None = None,
    title: str = "evaluate",
    progress: bool = True,
) -> dict[str, dict[str, float]]:
    """Run a segmenter over the photos of one dataset, each photo read and segmented once.

    Collective under torchrun. Memory does not grow with pixels: masks are kept compressed.

    Args:
        segmenter: a `WholeImageSegmenter`; for evaluators that click, a `PromptSegmenter` too.
        records: the photos.
        evaluators: by name; reset before use.
        granularity: passed to ``generate``.
        title: of the progress bar, which the first rank shows on a terminal.
        progress: whether to show it.

    Returns:
        Evaluator name -> metric -> value.

    Raises:
        ConfigError: an evaluator needs clicks and the segmenter takes none.
        DataError: a photo is unreadable or of another size than the annotations say.
    """
    for name, evaluator in evaluators.items():
        evaluator.reset()
        if evaluator.drives_segmenter and not _takes_prompts(segmenter):
            raise ConfigError(
                f"{name} clicks on objects, but {type(segmenter).__name__} gives whole-image "
                "masks only; set EVALUATION.EVALUATORS to AverageRecallEvaluator"
            )
    rank, world = rank_and_world()
    share = list(records)[rank::world]
    error: Exception | None = None
    try:
        silent = None if progress and rank == 0 else True
        for record in tqdm(share, desc=title, unit="photo", disable=silent):
            _evaluate_photo(segmenter, record, list(evaluators.values()), granularity)
    except Exception as problem:
        error = problem
    raise_on_every_rank(error)
    return {name: evaluator.evaluate() for name, evaluator in evaluators.items()}


def _takes_prompts(segmenter: Any) -> bool:
    return isinstance(segmenter, PromptSegmenter) and segmenter.takes_prompts


def _evaluate_photo(
    segmenter: Any,
    record: ImageRecord,
    evaluators: list[Evaluator],
    granularity: float | Sequence[float] | None,
) -> None:
    image = record.read_photo()
    if image.shape[:2] != record.size:
        raise DataError(
            f"{record.file_name}: the photo is {image.shape[1]}x{image.shape[0]} pixels, its "
            f"annotations are for {record.size[1]}x{record.size[0]}"
        )
    sample = {"image": image, "image_id": record.image_id, "file_name": record.file_name}
    if isinstance(segmenter, StoredMasks):
        segmenter.set_photo(record)
    if not all(evaluator.drives_segmenter for evaluator in evaluators):
        masks = segmenter.generate(image, granularity=granularity)
    for evaluator in evaluators:
        evaluator.process([sample], segmenter if evaluator.drives_segmenter else [masks])
