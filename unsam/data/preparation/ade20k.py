"""ADE20K with parts (full release of 2021): maps of objects, parts and parts of parts as masks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.preparation.prepared import PreparedPhoto, require_files, write_prepared
from unsam.errors import DataError
from unsam.structures import MaskSet, read_photo

# Instances of one class have different values of the blue channel.
_INSTANCES = 256


def prepare_ade20k(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    counts: PublishedCounts | None = None,
    progress: bool = False,
) -> str:
    """Write one split of ADE20K as class-agnostic COCO JSON.

    ``<photo>_seg.png`` is the map of objects, ``<photo>_parts_1.png`` of parts,
    ``<photo>_parts_2.png`` of their parts. In each, the class is ``R // 10 * 256 + G`` (0: no
    label) and the instance is ``B`` (Zhou et al., IJCV 2019; the release's own code). Every pair
    of class and instance is one mask, and pixels without a label are none, at no level: objects
    have ``level`` 0, parts 1 and more, and ``parent_id`` is the mask one level up that covers most
    of the part. ``source_class`` is the class's number in the maps, which counts from 1.

    Args:
        folder: of the split, such as ``ADE20K_2021_17_01/images/ADE/validation``; all its photos
            count.
        output: the JSON to write; ``images`` beside it gets a link to the folder.
        counts: that the split must have, None for a part of it.
        progress: show a bar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: no photo, photos without a map, a map that is damaged or of another size, or
            other counts.
        StorageError: the disk is full or the folder not writable.
    """
    root = Path(folder).expanduser().resolve()
    paths = sorted(root.rglob("*.jpg"))
    if not paths:
        raise DataError(f"{root}: no photo (.jpg) in it; give the folder of a split of ADE20K")
    missing = [path for path in map(_object_map, paths) if not path.is_file()]
    require_files(missing, len(paths), f"maps of objects in {root}")

    def photos() -> Iterator[PreparedPhoto]:
        for path in paths:
            size, annotations = _annotations_of(path)
            yield PreparedPhoto(
                path, f"{root.name}/{path.relative_to(root).as_posix()}", size, annotations, {}
            )

    info = {"description": f"ADE20K {root.name}, objects and parts, class-agnostic"}
    target = Path(output).expanduser()
    words: dict[str, Any] = {"info": info, "counts": counts, "progress": progress}
    return write_prepared(target, photos(), [root], total=len(paths), **words)


def _object_map(photo: Path) -> Path:
    return photo.with_name(f"{photo.stem}_seg.png")


def _annotations_of(photo: Path) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    above, classes = _masks_of(_object_map(photo))
    rows = _rows(above, classes, level=0, first=1, parents=None)
    ids = [row["id"] for row in rows]
    for level in count(1):
        path = photo.with_name(f"{photo.stem}_parts_{level}.png")
        if not path.is_file():
            return above.size, rows
        parts, classes = _masks_of(path)
        if parts.size != above.size:
            raise DataError(f"{path}: of size {parts.size}, the map of objects of {above.size}")
        parents = _parents(parts, above, ids)
        added = _rows(parts, classes, level, len(rows) + 1, parents)
        rows += added
        above, ids = parts, [row["id"] for row in added]
    raise AssertionError


def _masks_of(path: Path) -> tuple[MaskSet, list[int]]:
    """Return the masks of a map and the class of each."""
    red, green, blue = np.moveaxis(read_photo(path).astype(np.int64), -1, 0)
    classes = red // 10 * 256 + green
    labels = np.where(classes > 0, classes * _INSTANCES + blue, 0)
    found = np.unique(labels)
    return MaskSet.from_label_map(labels, background=0), (found[found > 0] // _INSTANCES).tolist()


def _parents(parts: MaskSet, above: MaskSet, ids: list[int]) -> list[int]:
    """Return the id of the mask of `above` that covers most of each part, -1 for none."""
    if not len(above):
        return [-1] * len(parts)
    common = parts.intersections(above)
    best = common.argmax(axis=1).tolist()
    return [ids[mask] if common[part, mask] else -1 for part, mask in enumerate(best)]


def _rows(
    masks: MaskSet, classes: list[int], level: int, first: int, parents: list[int] | None
) -> list[dict[str, Any]]:
    rows = []
    for index, (rle, kind) in enumerate(zip(masks.rles, classes, strict=True)):
        row = {"id": first + index, "segmentation": rle, "level": level, "source_class": kind}
        rows.append(row if parents is None else {**row, "parent_id": parents[index]})
    return rows
