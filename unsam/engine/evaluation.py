"""Evaluations of a model or a baseline: within a run, and as a run of their own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fvcore.common.config import CfgNode

from unsam.engine import distributed
from unsam.modeling import SegmentationModel

if TYPE_CHECKING:
    from unsam.evaluation.results import Results

REPORT_FILE = "report.html"

logger = logging.getLogger(__name__)


def evaluate_during_training(cfg: CfgNode, model: SegmentationModel) -> Results:
    """Evaluate a model as it is now; the main rank writes the numbers to ``OUTPUT_DIR``."""
    from unsam.evaluation import evaluate, format_results
    from unsam.inference import Segmenter

    segmenter = Segmenter(model, next(model.parameters()).device)
    # An evaluation fails on all ranks or on none.
    with distributed.together():
        results = evaluate(cfg, segmenter)
        _write(cfg, results, "")
    logger.info("%s", format_results(results))
    return results


def evaluate_and_report(
    cfg: CfgNode, model: SegmentationModel | None, weights: Path | str = ""
) -> Results:
    """Evaluate a model, or (None) the segmenter that the config names, resumably, with a report.

    The main rank writes ``results.json`` and ``results.md`` to ``OUTPUT_DIR``, and after them
    ``report.html``, whose failure costs a warning and no number.

    Raises:
        UnexpectedResultError: a number is not what ``TEST.EXPECTED_RESULTS`` says.
        UnsamError: the evaluation failed.
    """
    from unsam.evaluation import build_segmenter, evaluate, format_results
    from unsam.evaluation.expected_results import (
        UnexpectedResultError,
        check_expected_results,
        expected_results,
    )
    from unsam.inference import Segmenter
    from unsam.inference.folder import digest_of_weights

    segmenter: Any
    with distributed.together():
        expected = expected_results(cfg)
        if model is None:
            segmenter, digest = build_segmenter(cfg), ""
        else:
            segmenter = Segmenter(model, next(model.parameters()).device)
            digest = digest_of_weights(model.state_dict())
    with distributed.together():
        results = evaluate(cfg, segmenter, output=cfg.OUTPUT_DIR, segmenter_digest=digest)
        _write(cfg, results, weights)
    logger.info("%s", format_results(results))
    problems = check_expected_results(expected, results)
    # Together: the first process to go would take the one that draws with it.
    with distributed.together():
        if distributed.is_main():
            if cfg.EVALUATION.REPORT_PHOTOS:
                _report(cfg, segmenter, results, digest)
            for line in problems:
                logger.error("%s", line)
    if problems:
        count = f"{len(problems)} of {len(expected)}"
        raise distributed.mark_every_rank(
            UnexpectedResultError(f"{count} numbers are not as TEST.EXPECTED_RESULTS says")
        )
    return results


def _write(cfg: CfgNode, results: Results, weights: Path | str) -> None:
    from unsam.evaluation import write_results

    if distributed.is_main():
        about = {"segmenter": cfg.EVALUATION.SEGMENTER, "weights": str(weights)}
        write_results(results, cfg.OUTPUT_DIR, about)


def _report(cfg: CfgNode, segmenter: Any, results: Results, digest: str) -> None:
    from unsam.engine.evaluation_report import write_evaluation_report

    path = Path(cfg.OUTPUT_DIR) / REPORT_FILE
    try:
        write_evaluation_report(path, cfg, segmenter, results, digest)
    except Exception as error:
        # The numbers are there already; a picture must not take them away.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        logger.warning("%s could not be made (%s); the numbers are complete", path, reason)
    else:
        logger.info("report: %s", path)
