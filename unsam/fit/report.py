"""The page that ends a fit: photos with their masks, losses, numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fvcore.common.config import CfgNode

from unsam.fit.comparison import GROUND_TRUTH, HELD_OUT, Table, Truth

if TYPE_CHECKING:
    from unsam.data import ImageRecord
    from unsam.inference import Segmenter
    from unsam.structures import MaskSet

PSEUDO_CUTS = (0.15, 0.25, 0.4, 0.6)
GENERATE_GRANULARITIES = (0.2, 0.4, 0.7)
# Of overlapping answers only the best is drawn, or no photo would be seen below them.
DRAWN_OVERLAP = 0.2
CLICK_GRANULARITIES = (0.2, 0.35, 0.6, 0.9)
SHOWN_PHOTOS = 3
SHOWN_SIDE = 480
SHOWN_FAILURES = 10

_COLUMNS = {
    "AR@1": "AR@1",
    "AR@10": "AR@10",
    "AR@100": "AR@100",
    "AR@1000": "AR@1000",
    "masks per photo": "masks_per_photo",
    "AP50": "AP50",
    "1-IoU, granularity 0.5": "iou1@g0.5",
    "NoC80, granularity 0.5": "noc80@g0.5",
    "1-IoU, best of 10 (looks at the truth)": "oracle_iou1",
}
_MEANING = {
    HELD_OUT: "On {photos} that the model has never seen, against their pseudo masks: "
    "how much of its teacher it has learned, not how well it finds what people would draw.",
    GROUND_TRUTH: "On {photos} with masks by people{shared}. Where the model's row is above "
    "that of its teacher, it has learned more than it was taught.",
}


def write_report(
    path: Path,
    cfg: CfgNode,
    weights: Path,
    truths: Sequence[Truth],
    tables: Mapping[str, Table],
    failures: Mapping[str, str],
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: the HTML file.
        cfg: the recipe, with DATASETS and OUTPUT_DIR of the training.
        weights: of the trained model.
        truths: what the model was measured on; photos of the first one are shown.
        tables: the numbers, by title of the truth.
        failures: photos that were left out, with the reason.
    """
    from unsam.data import get_dataset
    from unsam.inference import Segmenter
    from unsam.visualization import Report

    local = cfg.clone()
    local.defrost()
    local.MODEL.WEIGHTS = str(weights)
    segmenter = Segmenter.from_config(local)
    train = get_dataset(cfg.DATASETS.TRAIN[0], cfg.DATASETS.IMAGE_ROOT)
    held_out = truths[0].records()
    report = Report(
        "From photos to a segmenter, without a label",
        f"{len(train) + len(held_out)} photos were divided and conquered into pseudo masks; a "
        f"model was trained on {len(train)} of them and is shown on photos that it has never seen.",
    )
    if failures:
        report.paragraph(f"{len(failures)} photos could not be used:")
        report.table(["photo", "reason"], [list(row) for row in failures.items()][:SHOWN_FAILURES])
    for record in held_out[:SHOWN_PHOTOS]:
        _add_photo(report, record, segmenter)
    _add_training(report, Path(cfg.OUTPUT_DIR) / "metrics.jsonl")
    trained_on = {Path(record.file_name).resolve() for record in train}
    for truth in truths:
        records = truth.records(cfg.EVALUATION.MAX_IMAGES)
        shared = sum(Path(record.file_name).resolve() in trained_on for record in records)
        _add_numbers(report, truth.title, tables[truth.title], len(records), shared)
    report.write(path)


def draw_click(image: np.ndarray, mask: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return ``uint8 [H, W, 3]``: a photo with a mask ``bool [H, W]`` and the click ``[x, y]``."""
    from unsam.visualization import draw_labels, draw_points

    tinted = draw_labels(image, np.where(mask, 0, -1), alpha=0.6)
    return draw_points(tinted, point[None], [1])


def _add_photo(report: Any, record: ImageRecord, segmenter: Segmenter) -> None:
    from unsam.structures import RegionTree
    from unsam.visualization import draw_labels, draw_masks

    image = record.read_photo()
    pseudo = record.masks()
    tree = RegionTree.from_masks(pseudo)
    report.heading(Path(record.file_name).name)
    report.paragraph(f"Pseudo masks ({len(pseudo)} of them), cut from fine to coarse:")
    cuts = [tree.cut(granularity) for granularity in PSEUDO_CUTS]
    report.figures(
        [_small(image), *(_small(draw_labels(image, labels)) for labels in cuts)],
        [
            "photo",
            *(
                f"granularity {granularity}: {np.unique(labels).size} regions"
                for granularity, labels in zip(PSEUDO_CUTS, cuts, strict=True)
            ),
        ],
    )
    report.paragraph("The model, asked for everything:")
    whole = _segment_whole(segmenter, image)
    report.figures(
        [
            _small(draw_masks(image, masks.filter(masks.nms(DRAWN_OVERLAP))))
            for masks in whole.values()
        ],
        [f"{name}: {len(masks)} masks" for name, masks in whole.items()],
    )
    if segmenter.takes_prompts:
        _add_clicks(report, image, _click_for(pseudo, image.shape[:2]), segmenter)


def _segment_whole(segmenter: Segmenter, image: np.ndarray) -> dict[str, MaskSet]:
    """Return the masks of a photo by granularity, or all of a model that knows of none."""
    try:
        return {
            f"granularity {granularity}": segmenter.generate(image, granularity)
            for granularity in GENERATE_GRANULARITIES
        }
    except ValueError:
        return {"any granularity": segmenter.generate(image)}


def _add_clicks(report: Any, image: np.ndarray, point: np.ndarray, segmenter: Segmenter) -> None:
    report.paragraph("The model, one click at four granularities:")
    segmenter.set_image(image)
    answer = segmenter.predict(point[None], [1], granularity=list(CLICK_GRANULARITIES))
    report.figures(
        [_small(draw_click(image, mask, point)) for mask in answer.masks],
        [
            f"granularity {granularity}: {100 * float(np.mean(mask)):.1f} % of the photo"
            for granularity, mask in zip(CLICK_GRANULARITIES, answer.masks, strict=True)
        ],
    )


def _add_training(report: Any, metrics_file: Path) -> None:
    from unsam.visualization import line_chart

    lines = [json.loads(line) for line in metrics_file.read_text().splitlines()]
    lines = [line for line in lines if "lr" in line]
    losses = sorted({key for line in lines for key in line if key.startswith("loss_")})
    steps = [line["iteration"] for line in lines]
    report.heading("Training")
    report.charts(
        [
            line_chart(
                "Losses",
                {key: (steps, [line.get(key, float("nan")) for line in lines]) for key in losses},
                "iteration",
            ),
            line_chart(
                "Learning rate", {"lr": (steps, [line["lr"] for line in lines])}, "iteration"
            ),
        ]
    )


def _add_numbers(report: Any, title: str, table: Table, photos: int, shared: int) -> None:
    report.heading(f"Numbers: {title}")
    if not table:
        report.paragraph("There is no mask on these photos, so nothing to measure.")
        return
    also = f", {shared} of which it was trained on (without those masks)" if shared else ""
    counted = "1 photo" if photos == 1 else f"{photos} photos"
    report.paragraph(_MEANING[title].format(photos=counted, shared=also))
    report.table(
        ["", *_COLUMNS],
        [
            [name, *(f"{row[key]:.3f}" if key in row else "–" for key in _COLUMNS.values())]
            for name, row in table.items()
        ],
    )


def _click_for(masks: Any, size: Sequence[int]) -> np.ndarray:
    """Return a point [x, y] deep inside a mask of middling size, the image's centre without one."""
    import cv2

    share = masks.areas / (size[0] * size[1])
    if not len(masks):
        return np.array([size[1] // 2, size[0] // 2], np.float32)
    mask = masks.mask(int(np.abs(np.log(np.maximum(share, 1e-6) / 0.06)).argmin()))
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([x, y], np.float32)


def _small(image: np.ndarray) -> np.ndarray:
    import cv2

    scale = SHOWN_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
