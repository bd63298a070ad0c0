"""Datasets that come as COCO JSON: COCO, LVIS, EntitySeg, PartImageNet, PACO."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.datasets.coco import load_coco_json
from unsam.data.datasets.record import ImageRecord, read_json_object
from unsam.data.preparation.draw import draw
from unsam.data.preparation.prepared import PreparedPhoto, require_files, write_prepared
from unsam.errors import DataError

Description = Callable[[dict[str, Any]], dict[str, Any]]
"""An annotation of the download to its ``level`` and, for a part, ``parent_id``."""

Categories = dict[Any, dict[str, Any]]
"""The categories of a JSON by their ids, none where it has none."""

_KEPT = ("id", "segmentation", "bbox", "area", "iscrowd")


def whole_objects(annotation: dict[str, Any]) -> dict[str, Any]:
    """Every mask is an object or region: COCO, LVIS, EntitySeg."""
    del annotation
    return {"level": 0}


def parts_only(annotation: dict[str, Any]) -> dict[str, Any]:
    """Every mask is a part, neither objects nor the background are annotated: PartImageNet."""
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
    counts: PublishedCounts | None = None,
    progress: bool = False,
) -> str:
    """Write a COCO-style download as class-agnostic COCO JSON with RLE.

    ``area`` and ``bbox`` stay as published, ``local_id`` is the published id, crowd regions stay
    marked; the category is in ``source_category``. Masks are those of the file and no more: what
    no annotation covers is not made a mask or part of its own.

    Args:
        annotations: the JSON of the download.
        images: folders of its photos; a photo is looked for by its relative name, then by its name
            alone, in each of them.
        output: the JSON to write; its folder of photos gets links to these.
        describe: tells objects from parts.
        counts: that the set must have; its photos are drawn from those of the download where it
            says so. None for all that the JSON lists.
        progress: show a bar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: the JSON is cut off, no COCO JSON or the output itself, photos are missing or
            damaged, or the counts are others.
        StorageError: the disk is full or the folder not writable.
    """

    def rows(record: ImageRecord, categories: Categories) -> list[dict[str, Any]]:
        return [_row(item, categories, describe) for item in record.load_annotations()]

    words: dict[str, Any] = {"counts": counts, "progress": progress}
    return prepare_json_download(annotations, images, output, rows, **words)


def prepare_json_download(
    annotations: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    rows_of: Callable[[ImageRecord, Categories], list[dict[str, Any]]],
    *,
    counts: PublishedCounts | None = None,
    progress: bool = False,
) -> str:
    """Write a download whose JSON lists photos as COCO's does.

    Args:
        annotations: as of `prepare_coco_style`, like the others.
        images: folders of the photos.
        output: the JSON to write.
        rows_of: from a photo with the annotations of the JSON, and the categories of the JSON by
            their ids, to the annotations that are written.
        counts: that the set must have.
        progress: show a bar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: as `prepare_coco_style`.
        StorageError: as `prepare_coco_style`.
    """
    source, target = Path(annotations).expanduser(), Path(output).expanduser()
    if source.resolve() == target.resolve():
        raise DataError(f"{target}: is the download itself; move it, or give another --output")
    folders = _folders(images)
    records = load_coco_json(source, "/", photos_required=False)
    if counts and counts.drawn_from:
        counts.require_download(len(records), str(source))
        drawn = set(draw((record.image_id for record in records), counts.photos[0]))
        records = [record for record in records if record.image_id in drawn]
    named = [(record, record.file_name.removeprefix("/")) for record in records]
    placed = [(record, _find(name, folders)) for record, name in named]
    missing = [Path(name) for (_, name), (_, place) in zip(named, placed, strict=True) if not place]
    require_files(missing, len(records), f"photos of {source}")
    categories = _categories(source)

    def photos() -> Iterator[PreparedPhoto]:
        for record, place in placed:
            assert place is not None
            folder, name = place
            try:
                rows = rows_of(record, categories)
            except DataError as error:
                raise DataError(f"{source}: {error}") from None
            fields = {"image_id": record.image_id}
            yield PreparedPhoto(folder / name, f"{folder.name}/{name}", record.size, rows, fields)

    info = {"description": f"{source.name}, class-agnostic"}
    words: dict[str, Any] = {"info": info, "counts": counts, "progress": progress}
    return write_prepared(target, photos(), folders, total=len(records), **words)


def _folders(images: Sequence[str | os.PathLike[str]]) -> list[Path]:
    folders = [Path(folder).expanduser().resolve() for folder in images]
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of photos")
    if len({folder.name for folder in folders}) < len(folders):
        raise DataError("two folders of photos have one name; rename one of them")
    return folders


def _row(
    annotation: dict[str, Any], categories: Categories, describe: Description
) -> dict[str, Any]:
    row = {key: annotation[key] for key in _KEPT if key in annotation}
    listed = categories.get(annotation.get("category_id"), {}).get("name")
    category = annotation.get("category_id_ori", listed)
    if category is not None:
        row["source_category"] = str(category)
    return row | describe(annotation)


def _categories(path: Path) -> Categories:
    rows = read_json_object(path).get("categories")
    listed = rows if isinstance(rows, list) else []
    return {row.get("id"): row for row in listed if isinstance(row, dict)}


def _find(name: str, folders: Sequence[Path]) -> tuple[Path, str] | None:
    """Return the folder that holds a photo, and the photo's name below it."""
    for candidate in dict.fromkeys((name, Path(name).name)):
        for folder in folders:
            if (folder / candidate).is_file():
                return folder, candidate
    return None
