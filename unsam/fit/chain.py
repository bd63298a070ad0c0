"""Pseudo masks, training, evaluation, report: one after the other, each resumed by a rerun.

Pseudo masks are made photo by photo, training goes on from its newest checkpoint, evaluations and
report are made again only where what they were made from has changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from unsam.errors import ConfigError
from unsam.fit.comparison import compare, list_truths
from unsam.fit.photo_sets import (
    FitInputs,
    PhotoSets,
    check_inputs,
    count_photos,
    digest_of_masks,
    make_sets,
)
from unsam.fit.stage_file import STAGE_FILE, StageFile, digest_of

REPORT_FILE = "report.html"
RUN_FOLDER = "run"


def fit(
    cfg: CfgNode,
    output: str | os.PathLike[str],
    inputs: FitInputs,
    *,
    num_workers: int = 1,
    baselines: Sequence[str] = (),
) -> Path:
    """Make a segmenter of a folder of photos, and return the path of its ``report.html``.

    No label is used in training. Pseudo masks of photos that are held out serve as truth, so those
    numbers say how well the model has learned its teacher. On a ground truth the teacher is
    measured too, and one sees which of the two is better.

    `output` receives ``pseudo_masks`` (and ``val_masks``, ``truth_masks``), ``run`` with the
    training and ``model.safetensors``, ``results.json``, ``report.html`` and ``fit.json``.

    Args:
        cfg: the recipe; its OUTPUT_DIR, DATASETS and EVALUATION.EVALUATORS are set here.
        output: folder for everything that is made; not within the photos.
        inputs: the photos and what else there is.
        num_workers: training processes to start, one per GPU.
        baselines: further segmenters for the table, as ``EVALUATION.SEGMENTER`` names them; any at
            all also adds the model without training.

    Raises:
        UnsamError: no usable photo, fewer than two of them, a disk that is full, a folder that
            holds a fit of other photos or of another model.
    """
    from unsam.engine import launch_training
    from unsam.evaluation import write_results
    from unsam.fit.report import write_report

    root = Path(output)
    _check_processes(cfg, num_workers)
    check_inputs(inputs, root)
    stages = StageFile.open(root / STAGE_FILE)
    if inputs.masks is None:
        _refuse_other_recipe(stages, root, cfg)
    stages.enter("pseudo masks")
    sets = make_sets(cfg, root, inputs)
    facts = _training_facts(cfg, sets)
    _refuse_other_photos(stages, root, facts, sets.masks[0])
    # Before the training, so that a wrong file does not end hours of it.
    truths = list_truths(cfg, root, inputs, sets)
    cfg = _with_data(cfg, root, sets)
    stages.enter("training", training=facts, unusable_photos=sets.failures)
    weights = launch_training(cfg, num_workers=num_workers, resume=True)
    stages.enter("evaluation")
    tables = compare(cfg, stages, weights, truths, baselines)
    names = dict.fromkeys(name for table in tables.values() for name in table)
    rows = {
        name: {title: table[name] for title, table in tables.items() if name in table}
        for name in names
    }
    write_results(rows, root, {"weights": str(weights)})
    stages.enter("report")
    report = root / REPORT_FILE
    made_from = digest_of(stages.content["results"], facts, sets.failures)
    if stages.content.get("report") != made_from or not report.is_file():
        write_report(report, cfg, weights, truths, tables, sets.failures)
    stages.enter("finished", report=made_from)
    return report


def _with_data(cfg: CfgNode, root: Path, sets: PhotoSets) -> CfgNode:
    local = cfg.clone()
    local.defrost()
    local.DATASETS.TRAIN, local.DATASETS.TEST = (str(sets.train),), (str(sets.held_out),)
    local.OUTPUT_DIR = str(root / RUN_FOLDER)
    local.freeze()
    return local


def _training_facts(cfg: CfgNode, sets: PhotoSets) -> dict[str, Any]:
    return {
        "photos": count_photos(sets.train),
        "held_out_photos": count_photos(sets.held_out),
        "masks": digest_of_masks(sets.train),
        "recipe": digest_of(cfg.PSEUDO_MASKS.dump()),
    }


def _check_processes(cfg: CfgNode, num_workers: int) -> None:
    from unsam.engine import distributed
    from unsam.engine.launch import check_num_processes

    if distributed.launched():
        raise ConfigError(
            "fit starts its own processes: leave torchrun out and give --num-gpus N; for several "
            "machines see docs/train_on_your_own_images.md"
        )
    check_num_processes(num_workers, cfg.DEVICE)


def _refuse_other_recipe(stages: StageFile, root: Path, cfg: CfgNode) -> None:
    """Keep the pseudo masks that a training was begun with from being made anew."""
    before = stages.content.get("training", {}).get("recipe")
    if before and _training_has_begun(root) and before != digest_of(cfg.PSEUDO_MASKS.dump()):
        raise ConfigError(
            f"{root}: its training was begun with other PSEUDO_MASKS settings; go back to them, or "
            "choose another --output"
        )


def _refuse_other_photos(stages: StageFile, root: Path, facts: dict[str, Any], masks: Path) -> None:
    """Keep a training from going on with other photos than it was begun with."""
    if not _training_has_begun(root):
        return
    before = stages.content.get("training")
    if before is None:
        raise ConfigError(
            f"{root / RUN_FOLDER}: a training that fit has not begun; choose another --output"
        )
    if before["masks"] != facts["masks"]:
        raise ConfigError(
            f"{root}: its training was begun with {before['photos']} photos, now there are "
            f"{facts['photos']}, or other masks; all pseudo masks are kept, so train anew with "
            f"--masks {masks} --output ANOTHER, or bring the photos of before"
        )


def _training_has_begun(root: Path) -> bool:
    from unsam.checkpoint.checkpointer import Checkpointer
    from unsam.engine.train import CHECKPOINT_FOLDER

    return bool(Checkpointer(root / RUN_FOLDER / CHECKPOINT_FOLDER).paths())
