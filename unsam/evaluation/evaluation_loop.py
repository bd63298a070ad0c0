"""Running a segmenter, trained or classical, over datasets and through evaluators."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from fvcore.common.config import CfgNode
from tqdm import tqdm

from unsam.data import ImageRecord, get_dataset
from unsam.errors import ConfigError, DataError
from unsam.evaluation.build import build_evaluator, build_segmenter
from unsam.evaluation.evaluator import (
    Evaluator,
    measure_once,
    raise_on_every_rank,
    rank_and_world,
)
from unsam.evaluation.photo_results import PhotoResults, photo_results_of
from unsam.evaluation.prompt_segmenter import PromptSegmenter
from unsam.evaluation.results import Results
from unsam.evaluation.stored_masks import StoredMasks
from unsam.structures import MaskSet

MODEL = "model"
"""The value of ``EVALUATION.SEGMENTER`` that stands for the trained model."""

logger = logging.getLogger(__name__)


class WholeImageSegmenter(Protocol):
    """Anything that gives the masks of a photo."""

    def generate(
        self, image: np.ndarray, granularity: float | Sequence[float] | None = None
    ) -> MaskSet:
        """Return the masks of ``uint8 [H, W, 3]``, at one, several or (None) all granularities."""


def evaluate(
    cfg: CfgNode,
    segmenter: Any = None,
    *,
    output: str | os.PathLike[str] | None = None,
    segmenter_digest: str = "",
) -> Results:
    """Run every evaluator of ``EVALUATION.EVALUATORS`` on every dataset of ``DATASETS.TEST``.

    Collective under torchrun: each rank takes its share of the photos, all get all numbers.

    Args:
        cfg: the config.
        segmenter: the trained model's segmenter; None builds the classical one that
            ``EVALUATION.SEGMENTER`` names.
        output: where results of photos are kept as they come, so that a rerun measures only the
            other photos; None keeps nothing.
        segmenter_digest: what kept results belong to besides the config, such as a hash of the
            weights. A classical segmenter that reads files gives its own (``digest``).

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
    if output is not None and hasattr(segmenter, "digest"):
        segmenter_digest = segmenter.digest()
    # All before the work: a dataset that is missing must not be found out hours later.
    datasets = {name: records_to_evaluate(cfg, name) for name in cfg.DATASETS.TEST}
    results: Results = {}
    for name, records in datasets.items():
        kept = None
        if output is not None:
            kept = photo_results_of(cfg, name, output, segmenter_digest)
        results[name] = evaluate_dataset(
            segmenter,
            records,
            {item: build_evaluator(item, cfg, records) for item in node.EVALUATORS},
            granularity=list(node.GRANULARITY) or None,
            title=name,
            kept=kept,
        )
    return results


def records_to_evaluate(cfg: CfgNode, name: str) -> list[ImageRecord]:
    """Return the photos of a dataset of ``DATASETS.TEST``, at most ``EVALUATION.MAX_IMAGES``.

    Raises:
        DataError: the dataset cannot be used.
    """
    records = get_dataset(name, cfg.DATASETS.IMAGE_ROOT)
    return records[: cfg.EVALUATION.MAX_IMAGES or None]


def evaluate_dataset(
    segmenter: Any,
    records: Sequence[ImageRecord],
    evaluators: dict[str, Evaluator],
    *,
    granularity: float | Sequence[float] | None = None,
    title: str = "evaluate",
    progress: bool = True,
    kept: PhotoResults | None = None,
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
        kept: results of photos on disk; these photos are not segmented again, and the results of
            the others are added.

    Returns:
        Evaluator name -> metric -> value.

    Raises:
        ConfigError: an evaluator needs clicks and the segmenter takes none.
        DataError: a photo is unreadable or of another size than the annotations say.
    """
    for name, evaluator in evaluators.items():
        evaluator.reset()
        if evaluator.needs_prompts and not _takes_prompts(segmenter):
            raise ConfigError(
                f"{name} clicks on objects, but {type(segmenter).__name__} gives whole-image "
                "masks only; set EVALUATION.EVALUATORS to AverageRecallEvaluator"
            )
    rank, world = rank_and_world()
    done = _resume(kept, records, evaluators, title) if kept else frozenset()
    share = [record for record in records if record.image_id not in done][rank::world]
    error: Exception | None = None
    try:
        silent = None if progress and rank == 0 else True
        for record in tqdm(share, desc=title, unit="photo", disable=silent):
            _evaluate_photo(segmenter, record, list(evaluators.values()), granularity)
            if kept:
                kept.append(record, _results_of(record, evaluators), rank)
    except Exception as problem:
        error = problem
    finally:
        if kept:
            kept.close()
    raise_on_every_rank(error)
    return {name: evaluator.evaluate() for name, evaluator in evaluators.items()}


def _resume(
    kept: PhotoResults,
    records: Sequence[ImageRecord],
    evaluators: Mapping[str, Evaluator],
    title: str,
) -> frozenset[int]:
    """Give the first rank's evaluators what is on disk; return whose it is, on every rank."""
    rank, _ = rank_and_world()
    found: dict[int, dict[str, Any]] = {}
    error: Exception | None = None
    try:
        if rank == 0:
            kept.remove_outdated()
            found = kept.load(records)
    except Exception as problem:
        error = problem
    raise_on_every_rank(error)
    for image_id, results in found.items():
        for name, result in results.items():
            evaluators[name].add(image_id, result)
    if found:
        logger.info("%s: %d of %d photos measured before", title, len(found), len(records))
    return measure_once({}, lambda _: frozenset(found))


def _results_of(record: ImageRecord, evaluators: Mapping[str, Evaluator]) -> dict[str, Any]:
    return {
        name: evaluator.results[record.image_id]
        for name, evaluator in evaluators.items()
        if record.image_id in evaluator.results
    }


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
