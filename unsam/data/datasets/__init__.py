"""Readers of annotation files; each gives a list of `ImageRecord`."""

from unsam.data.datasets.archives import ArchivedRecord, load_archives
from unsam.data.datasets.benchmarks import BENCHMARKS, benchmark_root, load_benchmark
from unsam.data.datasets.bsds500 import load_bsds500
from unsam.data.datasets.coco import load_coco_json
from unsam.data.datasets.json_folder import load_json_folder
from unsam.data.datasets.pseudo_masks import load_pseudo_masks
from unsam.data.datasets.record import ImageRecord

__all__ = [
    "BENCHMARKS",
    "ArchivedRecord",
    "ImageRecord",
    "benchmark_root",
    "load_archives",
    "load_benchmark",
    "load_bsds500",
    "load_coco_json",
    "load_json_folder",
    "load_pseudo_masks",
]
