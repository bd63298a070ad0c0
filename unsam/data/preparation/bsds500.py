"""BSDS500: the label maps of all annotators as masks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.preparation.mat_files import as_list, read_mat
from unsam.data.preparation.prepared import PreparedPhoto, require_files, write_prepared
from unsam.errors import DataError
from unsam.structures import MaskSet

BSDS500_COUNTS = {
    split: PublishedCounts((photos,))
    for split, photos in (("train", 200), ("val", 100), ("test", 200))
}
MIN_AREA = 100
"""Smaller regions are slivers of the hand drawing and never `distinct`."""
MAX_IOU = 0.8
"""A region that overlaps a larger distinct one by this much is a near-copy of it."""


def prepare_bsds500(
    raw: str | os.PathLike[str],
    split: str,
    output: str | os.PathLike[str],
    *,
    counts: PublishedCounts | None = None,
    progress: bool = False,
) -> str:
    """Write one split of BSDS500 as class-agnostic COCO JSON (Arbelaez et al., PAMI 2011).

    Every label of every annotator's map is one mask, with ``annotator`` (from 0), ``region_label``
    and ``distinct``: 1 for regions of `MIN_AREA` pixels or more that overlap each larger distinct
    one by less than IoU `MAX_IOU`.

    Args:
        raw: the folder with ``images/<split>/*.jpg`` and ``groundTruth/<split>/*.mat``
            (``BSR/BSDS500/data`` of the download).
        split: train, val or test.
        output: the JSON to write; ``images`` beside it gets a link to the photos.
        counts: that the split must have, None for a part of it.
        progress: show a bar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: no such folder, files are missing, damaged or of another size, or other counts.
        StorageError: the disk is full or the folder not writable.
    """
    root = Path(raw).expanduser().resolve()
    folder, truth = root / "images" / split, root / "groundTruth" / split
    paths = sorted(folder.glob("*.jpg"), key=lambda path: (len(path.stem), path.stem))
    if not paths:
        raise DataError(f"{folder}: no photo (.jpg) there; give the folder BSDS500/data")
    maps = [truth / f"{path.stem}.mat" for path in paths]
    missing = [path for path in maps if not path.is_file()]
    require_files(missing, len(maps), f"maps of {folder}")

    def photos() -> Iterator[PreparedPhoto]:
        for path, file in zip(paths, maps, strict=True):
            people = [MaskSet.from_label_map(labels) for labels in _label_maps(file)]
            rows = _rows(people)
            fields = {
                "num_annotators": len(people),
                "regions_per_annotator": [len(masks) for masks in people],
            }
            yield PreparedPhoto(path, f"{split}/{path.name}", people[0].size, rows, fields)

    info = {"description": f"BSDS500 {split}: every human segmentation of every photo"}
    target = Path(output).expanduser()
    words: dict[str, Any] = {"info": info, "counts": counts, "progress": progress}
    return write_prepared(target, photos(), [folder], total=len(paths), **words)


def _label_maps(path: Path) -> list[np.ndarray]:
    """Return the map of each annotator, ``int [H, W]``."""

    def parse(content: dict[str, Any]) -> list[np.ndarray]:
        cells = as_list(content["groundTruth"])
        return [np.asarray(cell["Segmentation"]).astype(np.int64) for cell in cells]

    maps = read_mat(path, parse, "BSDS500")
    if not maps or len({item.shape for item in maps}) > 1 or maps[0].ndim != 2:
        raise DataError(f"{path}: expected maps of one size, got {[m.shape for m in maps]}")
    return maps


def _rows(people: list[MaskSet]) -> list[dict[str, Any]]:
    pooled = MaskSet.cat(people)
    large = np.flatnonzero(pooled.areas >= MIN_AREA)
    # A region goes at the bound itself, too, where `nms` would keep it.
    kept = pooled.filter(large).nms(np.nextafter(MAX_IOU, 0), order="area")
    distinct = set(large[kept].tolist())
    rows: list[dict[str, Any]] = []
    for annotator, masks in enumerate(people):
        for label, rle in enumerate(masks.rles, start=1):
            fields = {"annotator": annotator, "region_label": label}
            is_distinct = int(len(rows) in distinct)
            rows.append(
                {"id": len(rows) + 1, "segmentation": rle, **fields, "distinct": is_distinct}
            )
    return rows
