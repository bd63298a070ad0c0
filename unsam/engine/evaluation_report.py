"""The page of one evaluation: numbers beside published ones, curves, worst and best photos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation import StoredMasks, build_evaluator
from unsam.evaluation.evaluation_loop import records_to_evaluate
from unsam.evaluation.photo_results import photo_results_of
from unsam.evaluation.published import PUBLISHED_NOTE, published_rows
from unsam.evaluation.results import Results
from unsam.structures import MaskSet
from unsam.visualization import Report, draw_masks, line_chart
from unsam.visualization.charts import bar_chart
from unsam.visualization.levels import fit_photo

SHOWN_SIDE = 420
SWEEP_GRANULARITIES = (0.1, 0.3, 0.5, 0.7, 1.0)
# Of overlapping masks only the best is drawn, or no photo would be seen below them.
DRAWN_OVERLAP = 0.2
SCORES = ("mean_best_iou", "covering_ODS", "boundary_ODS_F", "iou1", "point_max")
"""What ranks photos: the first of these that an evaluator's metrics begin with."""

_SIZES = {"small": "ARs@", "medium": "ARm@", "large": "ARl@"}


def write_evaluation_report(
    path: Path, cfg: CfgNode, segmenter: Any, results: Results, segmenter_digest: str = ""
) -> None:
    """Write the page, whole or not at all.

    Curves and the scores of single photos come from the results of photos below ``OUTPUT_DIR``;
    only the few photos that are shown are segmented again.

    Args:
        path: the HTML file.
        cfg: of the evaluation.
        segmenter: what was evaluated.
        results: what `unsam.evaluation.evaluate` returned.
        segmenter_digest: as `unsam.evaluation.evaluate` was given.
    """
    name = cfg.EVALUATION.SEGMENTER if cfg.EVALUATION.SEGMENTER != "model" else "the model"
    weights = f" ({cfg.MODEL.WEIGHTS})" if cfg.MODEL.WEIGHTS and name == "the model" else ""
    report = Report(f"Evaluation of {name}{weights}", f"Measured on {', '.join(results)}.")
    if hasattr(segmenter, "digest"):
        segmenter_digest = segmenter.digest()
    for dataset, evaluators in results.items():
        records = records_to_evaluate(cfg, dataset)
        kept = photo_results_of(cfg, dataset, cfg.OUTPUT_DIR, segmenter_digest)
        photos = dict(sorted(kept.load(records).items()))
        report.heading(dataset)
        for evaluator, metrics in evaluators.items():
            of_photos = {key: row[evaluator] for key, row in photos.items() if evaluator in row}
            _add_numbers(report, dataset, evaluator, metrics)
            _add_charts(report, evaluator, metrics, _curves(cfg, evaluator, records, of_photos))
        scores = score_photos(cfg, records, evaluators, photos)
        _add_photos(report, records, scores, segmenter, cfg.EVALUATION.REPORT_PHOTOS)
        _add_sweep(report, _middle(records, scores), segmenter)
    report.write(path)


def score_photos(
    cfg: CfgNode,
    records: Sequence[ImageRecord],
    evaluators: Mapping[str, Mapping[str, float]],
    photos: Mapping[int, Mapping[str, Any]],
) -> dict[int, float]:
    """Return image id -> how well this photo alone is segmented, from the worst to the best.

    The first evaluator with one of `SCORES` decides. Photos without truth have no score.
    """
    chosen = [
        (name, metric)
        for name, metrics in evaluators.items()
        for wanted in SCORES
        for metric in metrics
        if metric.startswith(wanted)
    ][:1]
    scores: dict[int, float] = {}
    for name, metric in chosen:
        for record in records:
            result = photos.get(record.image_id, {}).get(name)
            if result is None:
                continue
            try:
                alone = build_evaluator(name, cfg, [record]).measure({record.image_id: result})
            except DataError:
                continue
            if math.isfinite(alone[metric]):
                scores[record.image_id] = alone[metric]
    return dict(sorted(scores.items(), key=lambda item: (item[1], item[0])))


def _curves(
    cfg: CfgNode, evaluator: str, records: Sequence[ImageRecord], photos: Mapping[int, Any]
) -> dict[str, dict[str, list[float]]]:
    built: Any = build_evaluator(evaluator, cfg, records)
    return built.curves(photos) if hasattr(built, "curves") else {}


def _add_numbers(
    report: Report, dataset: str, evaluator: str, metrics: Mapping[str, float]
) -> None:
    report.paragraph(evaluator)
    report.table(["metric", "value"], [[name, _number(value)] for name, value in metrics.items()])
    rows = published_rows(dataset, evaluator, metrics, "this evaluation")
    if rows:
        columns = list(dict.fromkeys(name for row in rows.values() for name in row))
        report.paragraph(f"Beside published numbers. {PUBLISHED_NOTE}")
        report.table(
            ["method", *columns],
            [
                [method, *(_number(row.get(name, math.nan)) for name in columns)]
                for method, row in rows.items()
            ],
        )


def _add_charts(
    report: Report,
    evaluator: str,
    metrics: Mapping[str, float],
    curves: Mapping[str, Mapping[str, list[float]]],
) -> None:
    charts = []
    limits = {
        name: value
        for name, value in metrics.items()
        if name.startswith("AR@") and name[3:].isdigit() and math.isfinite(value)
    }
    if limits:
        values = list(limits.values())
        charts.append(bar_chart("Recall by masks per photo", list(limits), {evaluator: values}))
    sizes = {
        size: value
        for size, prefix in _SIZES.items()
        for name, value in metrics.items()
        if name.startswith(prefix) and math.isfinite(value)
    }
    if sizes:
        charts.append(
            bar_chart("Recall by object size", list(sizes), {evaluator: list(sizes.values())})
        )
    charts += [
        line_chart(name, {evaluator: (curve["x"], curve["y"])}) for name, curve in curves.items()
    ]
    if charts:
        report.charts(charts)


def _add_photos(
    report: Report,
    records: Sequence[ImageRecord],
    scores: Mapping[int, float],
    segmenter: Any,
    count: int,
) -> None:
    """Show the worst and the best photos, each once: the best masks beside the truth."""
    by_id = {record.image_id: record for record in records}
    order = list(scores)
    worst = order[:count]
    best = [image_id for image_id in order[::-1][:count] if image_id not in worst]
    for title, chosen in (("Worst photos", worst), ("Best photos", best)):
        if chosen:
            report.paragraph(f"{title}: for each mask of the truth what fits it best; the truth.")
        for image_id in chosen:
            record = by_id[image_id]
            image = record.read_photo()
            found, truth = _segment(segmenter, record, image), record.masks()
            report.figures(
                [_draw(image, _best_for(truth, found)), _draw(image, truth)],
                [
                    f"{Path(record.file_name).name}: score {scores[image_id]:.3f}, "
                    f"{len(found)} masks found",
                    f"truth: {len(truth)} masks",
                ],
            )


def _add_sweep(report: Report, record: ImageRecord, segmenter: Any) -> None:
    """Show one photo at granularities from fine to coarse, if the segmenter knows of them."""
    # Stored masks are the same whatever is asked for.
    if isinstance(segmenter, StoredMasks):
        return
    image = record.read_photo()
    try:
        sweep = [
            (value, _segment(segmenter, record, image, value)) for value in SWEEP_GRANULARITIES
        ]
    except ValueError:
        return
    report.paragraph(f"{Path(record.file_name).name}, from fine to coarse:")
    report.figures(
        [_draw(image, masks.filter(masks.nms(DRAWN_OVERLAP))) for _, masks in sweep],
        [f"granularity {value}: {len(masks)} masks" for value, masks in sweep],
    )


def _segment(
    segmenter: Any, record: ImageRecord, image: np.ndarray, granularity: float | None = None
) -> MaskSet:
    if isinstance(segmenter, StoredMasks):
        segmenter.set_photo(record)
    masks: MaskSet = segmenter.generate(image, granularity=granularity)
    return masks


def _middle(records: Sequence[ImageRecord], scores: Mapping[int, float]) -> ImageRecord:
    """Return the photo with the median score, the first photo where there is no score."""
    if not scores:
        return records[0]
    wanted = list(scores)[len(scores) // 2]
    return next(record for record in records if record.image_id == wanted)


def _best_for(truth: MaskSet, found: MaskSet) -> MaskSet:
    """Return for each mask of the truth the mask that overlaps it best, if any does."""
    if not (len(truth) and len(found)):
        return found.filter([])
    iou = found.iou(truth)
    return found.filter(iou.argmax(axis=0)[iou.max(axis=0) > 0])


def _draw(image: np.ndarray, masks: MaskSet) -> np.ndarray:
    """Return the photo with its masks, made small before."""
    if max(image.shape[:2]) > SHOWN_SIDE:
        image = fit_photo(image, SHOWN_SIDE)
        masks = masks.resize((image.shape[0], image.shape[1]))
    return draw_masks(image, masks)


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.4f}"
