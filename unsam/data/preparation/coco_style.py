"""Datasets that come as COCO JSON: COCO, LVIS, EntitySeg, PartImageNet, PACO."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unsam.data.datasets.coco import load_coco_json
from unsam.data.datasets.record import read_json_object
from unsam.data.preparation.prepared import PreparedPhoto, require_files, write_prepared
from unsam.errors import DataError

Description = Callable[[dict[str, Any]], dict[str, Any]]
"""An annotation of the download to its ``level`` and, for a part, ``parent_id``."""

_KEPT = ("id", "segmentation", "bbox", "area", "iscrowd")


def whole_objects(annotation: dict[str, Any]) -> dict[str, Any]:
    """Every mask is an object or region: COCO, LVIS, EntitySeg."""
    del annotation
    return {"level": 0}


def parts_only(annotation: dict[str, Any]) -> dict[str, Any]:
    """Every mask is a part, objects are not drawn: PartImageNet."""
    del annotation
    return {"level": 1}


def objects_and_parts(annotation: dict[str, Any]) -> dict[str, Any]:
    """A mask whose ``obj_ann_id`` is its own id is an object, any other a part of that: PACO.

    Raises:
        DataError: the annotation has none.
    """
    if "obj_ann_id" not in annotation:
        raise DataError(f"annotation {annotation.get('id', '?')} has no 'obj_ann_id' as in PACO")
    whole = annotation["obj_ann_id"]
    return {"level": 0} if whole == annotation.get("id") else {"level": 1, "parent_id": whole}


def prepare_coco_style(
    annotations: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    describe: Description = whole_objects,
    progress: bool = False,
) -> str:
    """Write a COCO-style download as class-agnostic COCO JSON with RLE.

    ``area`` and ``bbox`` stay as published, ``local_id`` is the published id, crowd regions stay
    marked; the category is in ``source_category``.

    Args:
        annotations: the JSON of the download.
        images: folders of its photos; a photo is looked for by its relative name, then by its name
            alone, in each of them.
        output: the JSON to write; ``images`` beside it gets links to the folders.
        describe: tells objects from parts.
        progress: show a bar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: the JSON is cut off or no COCO JSON, or photos are missing or damaged.
        StorageError: the disk is full or the folder not writable.
    """
    source = Path(annotations).expanduser()
    folders = [Path(folder).expanduser().resolve() for folder in images]
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of photos")
    if len({folder.name for folder in folders}) < len(folders):
        raise DataError("two folders of photos have one name; rename one of them")
    records = load_coco_json(source, "/", photos_required=False)
    names = _category_names(source)
    paths = [_find(record.file_name.removeprefix("/"), folders) for record in records]
    missing = [
        Path(record.file_name.removeprefix("/"))
        for record, path in zip(records, paths, strict=True)
        if path is None
    ]
    require_files(missing, len(records), f"photos of {source}")

    def photos() -> Iterator[PreparedPhoto]:
        for record, place in zip(records, paths, strict=True):
            assert place is not None
            folder, name = place
            try:
                rows = [_row(item, names, describe) for item in record.load_annotations()]
            except DataError as error:
                raise DataError(f"{source}: {error}") from None
            fields = {"image_id": record.image_id}
            yield PreparedPhoto(folder / name, f"{folder.name}/{name}", record.size, rows, fields)

    info = {"description": f"{source.name}, class-agnostic"}
    return write_prepared(
        Path(output).expanduser(),
        photos(),
        folders,
        total=len(records),
        info=info,
        progress=progress,
    )


def _row(
    annotation: dict[str, Any], names: dict[Any, str], describe: Description
) -> dict[str, Any]:
    row = {key: annotation[key] for key in _KEPT if key in annotation}
    category = annotation.get("category_id_ori", names.get(annotation.get("category_id")))
    if category is not None:
        row["source_category"] = str(category)
    return row | describe(annotation)


def _category_names(path: Path) -> dict[Any, str]:
    rows = read_json_object(path).get("categories")
    if not isinstance(rows, list):
        return {}
    return {row.get("id"): str(row.get("name")) for row in rows if isinstance(row, dict)}


def _find(name: str, folders: Sequence[Path]) -> tuple[Path, str] | None:
    """Return the folder that holds a photo, and the photo's name below it."""
    for candidate in dict.fromkeys((name, Path(name).name)):
        for folder in folders:
            if (folder / candidate).is_file():
                return folder, candidate
    return None
