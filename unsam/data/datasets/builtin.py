"""The names of the datasets under ``UNSAM_DATA``, and of the benchmarks.

Files are looked for when a dataset is loaded, not when this module is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from unsam.data.datasets.benchmarks import BENCHMARKS, load_benchmark
from unsam.data.datasets.bsds500 import POOLS, SPLITS, load_bsds500
from unsam.data.datasets.coco import load_coco_json
from unsam.data.datasets.record import ImageRecord
from unsam.errors import DataError

# Name -> (folder, annotation file, folder of the photos), all under the data folder.
_COCO_STYLE = {
    "ade20k_val": ("ade20k", "ade20k_val.json", "images"),
    "camvid_val": ("camvid", "camvid_val.json", "images"),
    "car_parts_val": ("car_parts", "car_parts_val.json", "images"),
    "clothing_parts_val": ("clothing_parts", "clothing_parts_val.json", "images"),
    "coco_train": ("coco", "coco_train.json", "images"),
    "coco_val": ("coco", "coco_val.json", "images"),
    "davis_val": ("davis", "davis_val.json", "JPEGImages"),
    "entity_val": ("entity_panoptic", "entity_panoptic_val.json", "images"),
    "fashionpedia_val": ("fashionpedia_sample", "fashionpedia_val_2.json", "images"),
    "grabcut_val": ("grabcut", "grabcut_val.json", "images"),
    "lvis_val": ("lvis", "lvis_val_4.json", "images"),
    "nuclei_val": ("nuclei", "nuclei_val.json", "images"),
}


def data_root() -> Path:
    """Return the folder of the datasets: ``UNSAM_DATA``, else ``../shared/data`` or ``./data``.

    Both defaults are meant from the repository's root; the first one that exists is taken.

    Raises:
        DataError: none of them is a folder.
    """
    given = os.environ.get("UNSAM_DATA")
    if given:
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise DataError(f"UNSAM_DATA: {folder} is not a folder")
        return folder
    repository = Path(__file__).resolve().parents[3]
    candidates = [repository.parent / "shared" / "data", repository / "data", Path("data")]
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise DataError(f"no dataset folder (looked for {candidates[0]}); set UNSAM_DATA to it")


def builtin_loaders() -> dict[str, Callable[[str], list[ImageRecord]]]:
    """Return name -> function of the folder of photos ("" for the dataset's own)."""
    loaders: dict[str, Callable[[str], list[ImageRecord]]] = {
        name: partial(_load_coco_style, *place) for name, place in _COCO_STYLE.items()
    }
    for split in SPLITS:
        for pool in POOLS:
            loaders[f"bsds500_{split}_{pool}"] = partial(_load_bsds500, split, pool)
    return loaders | {name: partial(load_benchmark, name) for name in BENCHMARKS}


def _load_coco_style(folder: str, file: str, photos: str, image_root: str) -> list[ImageRecord]:
    root = data_root() / folder
    return load_coco_json(root / file, image_root or root / photos)


def _load_bsds500(split: str, pool: str, image_root: str) -> list[ImageRecord]:
    return load_bsds500(data_root() / "bsds500", split, pool, image_root)
