"""Datasets by name: what ``DATASETS.TRAIN`` and ``DATASETS.TEST`` may hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unsam.annotations.coco import COCO_NAME
from unsam.annotations.folders import MANIFEST
from unsam.config import nearest
from unsam.data.datasets.archives import has_archives, load_archives
from unsam.data.datasets.builtin import builtin_loaders
from unsam.data.datasets.coco import load_coco_json
from unsam.data.datasets.json_folder import load_json_folder
from unsam.data.datasets.pseudo_masks import load_pseudo_masks
from unsam.data.datasets.record import ImageRecord
from unsam.errors import DataError

_REGISTERED: dict[str, Callable[[], list[ImageRecord]]] = {}
_BUILTIN = builtin_loaders()


def register_dataset(name: str, loader: Callable[[], list[ImageRecord]]) -> None:
    """Make a dataset known by name; `loader` is called each time it is asked for.

    Raises:
        DataError: the name is taken.
    """
    if name in _REGISTERED or name in _BUILTIN:
        raise DataError(f"a dataset named '{name}' is registered already; choose another name")
    _REGISTERED[name] = loader


def dataset_names() -> list[str]:
    """Return all names that `get_dataset` knows, sorted."""
    return sorted({*_REGISTERED, *_BUILTIN})


def get_dataset(spec: str, image_root: str = "") -> list[ImageRecord]:
    """Return the records of a dataset.

    Args:
        spec: a registered name, or a path: a folder of pseudo masks (with ``manifest.json``); a
            COCO-style JSON file, or a folder with ``annotations.json``; a tar (SA-1B, WebDataset)
            or TSV, or a folder of them; a folder of SA-1B style JSON files beside their photos.
            A name wins over a path; ``./name`` is always a path.
        image_root: folder of the photos, "" takes what the dataset says. A dataset registered
            with `register_dataset` sets its own paths and ignores it.

    Raises:
        DataError: nothing of that name; or the dataset cannot be used (broken file, photos that
            are not on disk, no photo at all).
    """
    if spec in _REGISTERED:
        records = _REGISTERED[spec]()
    elif spec in _BUILTIN:
        records = _BUILTIN[spec](image_root)
    else:
        records = _load_path(spec, image_root)
    if not records:
        raise DataError(f"dataset '{spec}' has no photo")
    return records


def _load_path(spec: str, image_root: str) -> list[ImageRecord]:
    path = Path(spec).expanduser()
    if path.is_dir():
        return _load_folder(path, image_root)
    if has_archives(path):
        return load_archives(path, image_root)
    if path.is_file():
        return load_coco_json(path, image_root)
    if "/" in spec or spec.endswith(".json"):
        raise DataError(f"dataset {spec}: no such file or folder")
    raise DataError(f"unknown dataset '{spec}'; {nearest(spec, dataset_names())}")


def _load_folder(path: Path, image_root: str) -> list[ImageRecord]:
    if (path / MANIFEST).is_file():
        return load_pseudo_masks(path, image_root)
    if has_archives(path):
        return load_archives(path, image_root)
    if (path / COCO_NAME).is_file():
        return load_coco_json(path / COCO_NAME, image_root)
    records = load_json_folder(path, image_root)
    if not records:
        raise DataError(
            f"{path}: no masks in it ({MANIFEST}, .json, .tar or .tsv); make them with "
            f"`unsam pseudo-masks --input {path} --output DIR`"
        )
    return records
