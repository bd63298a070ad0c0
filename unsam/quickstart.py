"""The main job from end to end: photos, pseudo masks, training, evaluation, a report.

Every stage writes its own folder and is skipped by a rerun where its output is there: pseudo masks
photo by photo, training from its newest checkpoint.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fvcore.common.config import CfgNode

from unsam.errors import DataError

if TYPE_CHECKING:
    from unsam.data import ImageRecord
    from unsam.inference import Segmenter

SCIKIT_IMAGE_PHOTOS = (
    "astronaut.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Photos that travel inside the scikit-image package."""

HELD_OUT_SHARE = 0.2
BASELINES = ("Otsu", "Slic", "Felzenszwalb")
PSEUDO_CUTS = (0.15, 0.25, 0.4, 0.6)
GENERATE_GRANULARITIES = (0.2, 0.4, 0.7)
# Of overlapping answers only the best is drawn, or no photo would be seen below them.
DRAWN_OVERLAP = 0.2
CLICK_GRANULARITIES = (0.2, 0.35, 0.6, 0.9)
SHOWN_PHOTOS = 3
SHOWN_SIDE = 480

logger = logging.getLogger("unsam")


def run_quickstart(cfg: CfgNode, output: str | Path, images: str | None = None) -> Path:
    """Do the main job on a folder of photos and return the path of ``report.html``.

    No label is used: a fifth of the photos is held out, and their pseudo masks serve as the truth
    of the evaluation, so its numbers say how well the model has learned its teacher.

    Args:
        cfg: the recipe; its OUTPUT_DIR, DATASETS and EVALUATION.SEGMENTER are set here.
        output: folder for everything that is made.
        images: folder of photos; None takes those that scikit-image carries.

    Raises:
        UnsamError: no usable photo, fewer than two of them, or a folder that is not writable.
    """
    from divide_and_conquer.generate import generate_pseudo_masks
    from unsam.data.datasets.pseudo_masks import split_pseudo_masks
    from unsam.engine import launch_training
    from unsam.inference import Segmenter

    root = Path(output)
    folder = Path(images) if images else _collect_scikit_image_photos(root / "photos")
    cfg = cfg.clone()
    cfg.defrost()
    generate_pseudo_masks(folder, root / "pseudo_masks", cfg, workers=0)
    train, held_out = split_pseudo_masks(
        root / "pseudo_masks", root / "train", root / "held_out", HELD_OUT_SHARE, cfg.SEED
    )
    cfg.DATASETS.TRAIN = (str(train),)
    cfg.DATASETS.TEST = (str(held_out),)
    cfg.OUTPUT_DIR = str(root / "run")
    cfg.freeze()
    checkpoint = launch_training(cfg, resume=True)
    segmenter = Segmenter.from_pretrained(checkpoint)
    results = evaluate_all(cfg, segmenter)
    return write_report(root / "report.html", cfg, segmenter, results)


def evaluate_all(cfg: CfgNode, trained: Segmenter) -> dict[str, dict[str, float]]:
    """Evaluate the trained model, the same model untrained, and the classical baselines.

    Returns:
        Row name -> metric -> value; clicks for the two models only. Also written to
        ``results.json`` beside the run.
    """
    import torch

    from unsam.evaluation import evaluate, write_results
    from unsam.inference import Segmenter

    torch.manual_seed(cfg.SEED)
    untrained = cfg.clone()
    untrained.defrost()
    untrained.MODEL.WEIGHTS = ""
    models = {"trained model": trained, "untrained model": Segmenter.from_config(untrained)}
    rows: dict[str, dict[str, float]] = {}
    for name in (*models, *BASELINES):
        local = cfg.clone()
        local.defrost()
        if name in models:
            local.EVALUATION.EVALUATORS = ("AverageRecallEvaluator", "InteractiveEvaluator")
            results = evaluate(local, models[name])
        else:
            local.EVALUATION.SEGMENTER = name
            local.EVALUATION.EVALUATORS = ("AverageRecallEvaluator",)
            results = evaluate(local)
        (evaluators,) = results.values()
        rows[name] = {key: value for item in evaluators.values() for key, value in item.items()}
    write_results(
        {name: {"Quickstart": metrics} for name, metrics in rows.items()},
        Path(cfg.OUTPUT_DIR),
        {"truth": "pseudo masks of held-out photos"},
    )
    return rows


def write_report(
    path: Path, cfg: CfgNode, segmenter: Segmenter, results: dict[str, dict[str, float]]
) -> Path:
    """Write the HTML report of a finished run and return its path."""
    from unsam.data import get_dataset
    from unsam.visualization import Report

    train, held_out = (get_dataset(name[0]) for name in (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST))
    report = Report(
        "From photos to a segmenter, without a label",
        f"{len(train) + len(held_out)} photos were divided and conquered into pseudo masks; a "
        f"small model was trained on {len(train)} of them and is shown on photos that it has "
        "never seen.",
    )
    for record in held_out[:SHOWN_PHOTOS]:
        _add_photo(report, record, segmenter)
    _add_training(report, Path(cfg.OUTPUT_DIR) / "metrics.jsonl")
    _add_results(report, results, len(held_out))
    report.write(path)
    return path


def _add_photo(report: Any, record: ImageRecord, segmenter: Segmenter) -> None:
    from unsam.structures import RegionTree, read_photo
    from unsam.visualization import draw_labels, draw_masks

    image = read_photo(record.file_name)
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
    report.paragraph("The model, asked for everything at three granularities:")
    whole = [segmenter.generate(image, granularity) for granularity in GENERATE_GRANULARITIES]
    report.figures(
        [_small(draw_masks(image, masks.filter(masks.nms(DRAWN_OVERLAP)))) for masks in whole],
        [
            f"granularity {granularity}: {len(masks)} masks"
            for granularity, masks in zip(GENERATE_GRANULARITIES, whole, strict=True)
        ],
    )
    report.paragraph("The model, one click at four granularities:")
    point = _click_for(pseudo, image.shape[:2])
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


def _add_results(report: Any, results: dict[str, dict[str, float]], photos: int) -> None:
    columns = {
        "AR@1": "AR@1",
        "AR@10": "AR@10",
        "AR@100": "AR@100",
        "AR@1000": "AR@1000",
        "AP50": "AP50",
        "1-IoU, granularity 0.5": "iou1@g0.5",
        "NoC80, granularity 0.5": "noc80@g0.5",
        "1-IoU, best of 10 (looks at the truth)": "oracle_iou1",
    }
    report.heading("Numbers")
    report.paragraph(
        f"On {photos} held-out photos, against their own pseudo masks: how much of its teacher the "
        "model has learned, not how well it finds what people would draw."
    )
    report.table(
        ["", *columns],
        [
            [name, *(f"{row[key]:.3f}" if key in row else "–" for key in columns.values())]
            for name, row in results.items()
        ],
    )


def _collect_scikit_image_photos(folder: Path) -> Path:
    """Copy the photos of the scikit-image package to `folder` and return it."""
    import skimage.data

    from unsam.checkpoint.atomic import atomic_writer

    source = Path(skimage.data.__file__).parent
    found = [source / name for name in SCIKIT_IMAGE_PHOTOS if (source / name).is_file()]
    if len(found) < 2:
        raise DataError("scikit-image carries no photos here; name a folder with --images DIR")
    for path in found:
        if not (folder / path.name).is_file():
            with atomic_writer(folder / path.name) as stream:
                stream.write(path.read_bytes())
    return folder


def _click_for(masks: Any, size: Sequence[int]) -> np.ndarray:
    """Return a point [x, y] deep inside a mask of middling size, the image's centre without one."""
    import cv2

    share = masks.areas / (size[0] * size[1])
    if not len(masks):
        return np.array([size[1] / 2, size[0] / 2], np.float32)
    mask = masks.mask(int(np.abs(np.log(np.maximum(share, 1e-6) / 0.06)).argmin()))
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return np.array([x, y], np.float32)


def draw_click(image: np.ndarray, mask: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return ``uint8 [H, W, 3]``: a photo with a mask ``bool [H, W]`` and the click ``[x, y]``."""
    from unsam.visualization import draw_labels, draw_points

    tinted = draw_labels(image, np.where(mask, 0, -1), alpha=0.6)
    return draw_points(tinted, point[None], [1])


def _small(image: np.ndarray) -> np.ndarray:
    import cv2

    scale = SHOWN_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
