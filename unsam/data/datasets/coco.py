"""COCO-style instance JSON (COCO, LVIS, and whatever is exported in that layout)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from unsam.annotations.folders import PHOTOS
from unsam.data.datasets.record import ImageRecord, read_json_object, require_photos
from unsam.errors import DataError

ANNOTATIONS = "annotations"
"""The folder of a JSON whose photos lie in the folder ``images`` beside that folder."""

# Annotations are kept as text, a tenth of the memory that Python's objects take; under this key.
_TEXT = "\0text"


def load_coco_json(
    path: str | os.PathLike[str],
    image_root: str | os.PathLike[str] = "",
    *,
    keep: Callable[[dict[str, Any]], bool] | None = None,
    photos_required: bool = True,
) -> list[ImageRecord]:
    """Read a COCO-style annotation file; categories are ignored, crowd regions stay marked.

    Segmentations may be polygons, uncompressed or compressed RLE; they are decoded when a record
    is asked for its masks. ``iscrowd``, ``area``, ``bbox`` and ``id`` may be absent.

    Args:
        path: the JSON file.
        image_root: folder that the file names are relative to; "" takes ``images`` beside the
            file, else as `prepared_photos` says, else the file's own folder.
        keep: which annotations to keep, None for all.
        photos_required: whether a photo that is not on disk is an error.

    Returns:
        One record per image, in order of the image ids.

    Raises:
        DataError: truncated JSON, missing keys, a repeated image id, an annotation of an unknown
            image, no image, or photos that are not on disk.
    """
    file = Path(path)
    content = read_json_object(file, partial(_packed, keep))
    images = _rows(content, "images", file)
    if not images:
        raise DataError(f"{file}: no image in it")
    grouped: dict[int, list[bytes]] = {}
    for image in images:
        identity = _integer(image, "id", file, "an image")
        if identity in grouped:
            raise DataError(f"{file}: two images have the id {identity}")
        grouped[identity] = []
    for item in _rows(content, "annotations", file):
        name = item.get("id", "?")
        identity = _integer(item, "image_id", file, f"annotation {name}")
        if identity not in grouped:
            raise DataError(f"{file}: annotation {name} is of image {identity}, which is not there")
        # One without a segmentation was not packed; it is an error when it is decoded.
        if text := item[_TEXT] if _TEXT in item else _as_text(item):
            grouped[identity].append(text)
    root = _photo_folder(file, image_root)
    records = [_record(image, grouped.pop(int(image["id"])), root, file) for image in images]
    if photos_required:
        missing = [item.file_name for item in records if not Path(item.file_name).is_file()]
        require_photos(missing, len(records), str(file))
    return sorted(records, key=lambda item: item.image_id)


def prepared_photos(path: Path) -> Path:
    """Return where the photos of a prepared JSON are: ``images`` beside it.

    Or beside its folder, where that is called ``annotations`` as in detectron2's layout.
    """
    folder = path.parent.parent if path.parent.name == ANNOTATIONS else path.parent
    return folder / PHOTOS


def _photo_folder(file: Path, image_root: str | os.PathLike[str]) -> Path:
    if os.fspath(image_root):
        return Path(image_root).expanduser().resolve()
    place = file.resolve()
    candidates = (place.parent / PHOTOS, prepared_photos(place))
    return next((folder for folder in candidates if folder.is_dir()), place.parent)


def _packed(keep: Callable[[dict[str, Any]], bool] | None, item: dict[str, Any]) -> dict[str, Any]:
    """Turn an annotation into its text as soon as it is parsed; no text for one not kept."""
    if "segmentation" not in item:
        return item
    text = _as_text(item) if keep is None or keep(item) else b""
    return {key: item[key] for key in ("id", "image_id") if key in item} | {_TEXT: text}


def _as_text(item: dict[str, Any]) -> bytes:
    return json.dumps(item, separators=(",", ":")).encode("ascii")


def _record(image: dict[str, Any], annotations: list[bytes], root: Path, file: Path) -> ImageRecord:
    name = image.get("file_name") or Path(str(image.get("coco_url", ""))).name
    if not name:
        raise DataError(f"{file}: image {image['id']} has no 'file_name'")
    owner = f"image {image['id']}"
    height, width = (_integer(image, key, file, owner) for key in ("height", "width"))
    if height < 1 or width < 1:
        raise DataError(f"{file}: {owner} is {width}x{height} pixels")
    text = b"[" + b",".join(annotations) + b"]"
    return ImageRecord(int(image["id"]), str(root / str(name)), height, width, text)


def _rows(content: dict[str, Any], key: str, file: Path) -> list[dict[str, Any]]:
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        known = ", ".join(sorted(content)[:8]) or "nothing"
        raise DataError(f"{file}: expected a list '{key}' as in COCO files, found {known}")
    return rows


def _integer(row: dict[str, Any], key: str, file: Path, owner: str) -> int:
    try:
        return int(row[key])
    except KeyError:
        raise DataError(f"{file}: {owner} has no '{key}'") from None
    except (TypeError, ValueError):
        raise DataError(f"{file}: {owner}: '{key}' must be a number, got {row[key]!r}") from None
