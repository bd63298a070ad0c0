"""Datasets on the photos of PASCAL VOC with a MATLAB file each: SBD and Pascal-Part."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unsam.annotations.records import read_bytes
from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.preparation.mat_files import as_list, read_mat
from unsam.data.preparation.prepared import require_files
from unsam.data.preparation.truth_files import AnnotatedPhoto, PhotoMasks, prepare_truth_files
from unsam.errors import DataError
from unsam.structures import MaskSet


def sbd_instances(path: Path) -> PhotoMasks:
    """Read the instances of a photo of SBD (Hariharan et al., ICCV 2011), ``inst/<photo>.mat``.

    ``GTinst.Segmentation`` is 0 on the background, which is no mask, and k on instance k, whose
    class (1 to 20) is entry k of ``GTinst.Categories``, counted from 1.

    Raises:
        DataError: damaged, or of another layout.
    """

    def parse(content: dict[str, Any]) -> tuple[np.ndarray, list[int]]:
        truth = content["GTinst"]
        labels = np.asarray(truth["Segmentation"]).astype(np.int64)
        found = np.setdiff1d(labels, [0])
        return labels, np.atleast_1d(truth["Categories"])[found - 1].tolist()

    labels, kinds = read_mat(path, parse, "SBD")
    masks = MaskSet.from_label_map(labels, background=0)
    rows = [
        {"segmentation": rle, "level": 0, "source_category": str(kind)}
        for rle, kind in zip(masks.rles, kinds, strict=True)
    ]
    return masks.size, rows


def pascal_parts(path: Path) -> PhotoMasks:
    """Read the objects and parts of a photo of Pascal-Part (Chen et al., CVPR 2014).

    ``anno.objects`` has a mask and the masks of its parts for each object: ``level`` 0, and
    ``level`` 1 with the object as ``parent_id``. Pixels of an object that belong to none of its
    parts are no part. Empty masks are left out.

    Raises:
        DataError: damaged, or of another layout.
    """

    def parse(content: dict[str, Any]) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
        shapes: list[np.ndarray] = []
        rows: list[dict[str, Any]] = []

        def add(item: dict[str, Any], **fields: Any) -> int:
            shapes.append(np.asarray(item["mask"]) != 0)
            rows.append({"id": len(shapes), **fields})
            return len(shapes)

        for thing in as_list(content["anno"]["objects"]):
            whole = add(thing, level=0, source_category=thing["class"])
            for part in as_list(thing["parts"]):
                kind = f"{thing['class']} {part['part_name']}"
                add(part, level=1, parent_id=whole, source_category=kind)
        return shapes, rows

    shapes, rows = read_mat(path, parse, "Pascal-Part")
    if len({shape.shape for shape in shapes}) != 1 or shapes[0].ndim != 2:
        sizes = sorted({shape.shape for shape in shapes})
        raise DataError(f"{path}: expected masks of one size, got {sizes}; fetch it again")
    masks = MaskSet.from_masks(np.stack(shapes))
    filled = [
        {**row, "segmentation": rle}
        for row, rle, area in zip(rows, masks.rles, masks.areas, strict=True)
        if area
    ]
    return masks.size, filled


def prepare_pascal_voc(
    listing: str | os.PathLike[str],
    images: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    output: str | os.PathLike[str],
    read: Callable[[Path], PhotoMasks],
    *,
    counts: PublishedCounts | None = None,
    progress: bool = False,
) -> str:
    """Write the photos of a list as class-agnostic COCO JSON.

    Args:
        listing: text file with the name of a photo per line, such as ``val.txt``.
        images: folder of ``<name>.jpg``.
        truth: folder of ``<name>.mat``.
        output: the JSON to write; its folder of photos gets a link to `images`.
        read: `sbd_instances` or `pascal_parts`.
        counts: that the set must have, None for a part of it.
        progress: show a bar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: the list is missing or names a photo twice, files are missing, damaged or of
            another size, or the counts are others.
        StorageError: the disk is full or the folder not writable.
    """
    place = Path(listing).expanduser()
    lines = read_bytes(place).decode("utf-8", "replace").splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{place}: names {twice} more than once; fetch it again")
    root, folder = Path(images).expanduser().resolve(), Path(truth).expanduser()
    annotated = [AnnotatedPhoto(root / f"{name}.jpg", [folder / f"{name}.mat"]) for name in names]
    for what, files in (
        ("photos", [item.photo for item in annotated]),
        ("files of masks", [item.truth[0] for item in annotated]),
    ):
        missing = [file for file in files if not file.is_file()]
        require_files(missing, len(files), f"{what} of {place}")
    words: dict[str, Any] = {"counts": counts, "progress": progress}
    return prepare_truth_files(annotated, read, root, Path(output).expanduser(), **words)
