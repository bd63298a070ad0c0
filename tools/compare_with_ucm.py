"""Recall of the default pseudo masks beside the supervised gPb-UCM: ``compare_with_ucm.py FOLDER``.

FOLDER holds ultrametric contour maps of BSDS500 val photos as ``<id>.png`` (uint8, double
resolution, see golden/evaluation). Both give at most 1,000 masks per photo; of the hierarchy these
are the 1,000 largest regions of all its levels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from divide_and_conquer.pipeline import build_masker
from unsam.cli import run_reporting_errors
from unsam.config import get_cfg
from unsam.data import get_dataset
from unsam.errors import DataError
from unsam.evaluation.average_recall import AverageRecallEvaluator
from unsam.structures import MaskSet

FIGURES = ("AR@1000", "AR@1000_best_overlap", "mean_best_iou", "masks_per_photo")


def ucm_regions(contours: np.ndarray, max_masks: int = 1000) -> MaskSet:
    """Return the largest distinct regions of a contour map ``uint8 [2H + 1, 2W + 1]``.

    A region of level t is an 8-connected component of the places with strength up to t, taken at
    the pixels, which are the odd rows and columns (reference sheet on evaluation, BSDS500).
    """
    levels = []
    for level in np.unique(contours):
        inside = (contours <= level).astype(np.uint8)
        labels = cv2.connectedComponents(inside, connectivity=8)[1][1::2, 1::2]
        levels.append(MaskSet.from_label_map(labels, background=0))
    masks = MaskSet.cat(levels)
    first = {masks.runs_of(index).tobytes(): index for index in range(len(masks) - 1, -1, -1)}
    masks = masks.filter(sorted(first.values())).sort(by="area")
    masks = masks.filter(np.arange(min(max_masks, len(masks))))
    return masks.replace(score=np.linspace(1, 0, len(masks)))


def main() -> int:
    """Print the figures of both on the photos that have a contour map."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    records = [
        record
        for record in get_dataset("bsds500_val_distinct")
        if (folder / f"{Path(record.file_name).stem}.png").is_file()
    ]
    if not records:
        raise DataError(f"{folder}: no contour map of a BSDS500 val photo (<id>.png)")
    masker = build_masker(get_cfg())
    evaluators = {
        name: AverageRecallEvaluator.from_config(get_cfg(), records)
        for name in ("gPb-UCM", "default")
    }
    for record in records:
        photo = record.read_photo()
        sample = {"image": photo, "image_id": record.image_id, "file_name": record.file_name}
        contours = cv2.imread(str(folder / f"{Path(record.file_name).stem}.png"), -1)
        evaluators["gPb-UCM"].process([sample], [ucm_regions(contours)])
        evaluators["default"].process([sample], [masker(photo)])
    print(f"{len(records)} photos")
    for name, evaluator in evaluators.items():
        figures = evaluator.evaluate()
        print(name, *(f"{key} {figures[key]:.3f}" for key in FIGURES))
    return 0


if __name__ == "__main__":
    raise SystemExit(run_reporting_errors(main))
