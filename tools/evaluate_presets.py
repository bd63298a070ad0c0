"""Compare presets: ``python tools/evaluate_presets.py --presets default --sets coco_val``.

Makes the masks of each photo in this process and measures them against the truth of each dataset;
a name that is no preset is taken for a classical baseline (Felzenszwalb, Slic, Otsu). Prints one
line of a Markdown table for each, and writes all figures as JSON with --output.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from divide_and_conquer.pipeline import build_masker
from unsam.checkpoint.atomic import write_text_atomic
from unsam.cli import run_reporting_errors
from unsam.config import get_cfg, load_preset
from unsam.config.loading import apply_overrides
from unsam.data import get_dataset
from unsam.errors import ConfigError
from unsam.evaluation.average_recall import AverageRecallEvaluator
from unsam.evaluation.build import build_segmenter
from unsam.evaluation.evaluation_loop import evaluate_dataset
from unsam.structures import MaskSet

SETS = (
    "bsds500_val_distinct", "bsds500_val_all", "coco_val", "lvis_val", "ade20k_val", "entity_val",
    "car_parts_val", "clothing_parts_val", "camvid_val", "nuclei_val", "fashionpedia_val",
    "grabcut_val", "davis_val",
)  # fmt: skip
COLUMNS = ("AR@1000", "ARs@1000", "ARm@1000", "ARl@1000", "mean_best_iou")


class TimedMasker:
    """The masks of a preset behind the interface of a segmenter; counts masks and seconds."""

    def __init__(self, name: str, overrides: Sequence[str]) -> None:
        try:
            masker = build_masker(load_preset(name, overrides))
        except ConfigError:
            cfg = get_cfg()
            apply_overrides(cfg, ["EVALUATION.SEGMENTER", name, *overrides])
            masker = build_segmenter(cfg).generate
        self.masker = masker
        self.seconds: list[float] = []
        self.counts: list[int] = []

    def generate(self, image: np.ndarray, granularity: object = None) -> MaskSet:
        """Return the masks of ``uint8 [H, W, 3]``; `granularity` is not used."""
        start = time.perf_counter()
        masks = self.masker(image)
        self.seconds.append(time.perf_counter() - start)
        self.counts.append(len(masks))
        return masks


def measure(preset: str, dataset: str, max_images: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the recall of a preset on a dataset, masks and seconds per photo, peak memory."""
    records = get_dataset(dataset)[: max_images or None]
    masker = TimedMasker(preset, overrides)
    evaluators = {"recall": AverageRecallEvaluator.from_config(get_cfg(), records)}
    figures = evaluate_dataset(masker, records, evaluators, title=f"{preset} {dataset}")["recall"]
    return {
        "preset": preset,
        "set": dataset,
        "photos": len(records),
        "masks_per_photo": statistics.mean(masker.counts),
        "seconds_per_photo": statistics.median(masker.seconds),
        "process_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **figures,
    }


def main() -> int:
    """Measure every preset on every set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--presets", nargs="+", default=["Felzenszwalb", "default"])
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="names of unsam.data")
    parser.add_argument("--max-images", type=int, default=0, help="0 takes all")
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="overrides")
    arguments = parser.parse_args()
    rows = []
    print(
        "| set | preset | photos | AR@1000 | small | medium | large | mean best IoU | masks | s |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for dataset in arguments.sets:
        for preset in arguments.presets:
            row = measure(preset, dataset, arguments.max_images, arguments.opts)
            rows.append(row)
            shown = " | ".join(f"{row[column]:.3f}" for column in COLUMNS)
            print(
                f"| {dataset} | {preset} | {row['photos']} | {shown} | "
                f"{row['masks_per_photo']:.0f} | {row['seconds_per_photo']:.2f} |",
                flush=True,
            )
    if arguments.output:
        write_text_atomic(arguments.output, json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_reporting_errors(main))
