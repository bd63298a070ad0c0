"""One COCO JSON for all photos."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from unsam.annotations.folders import PHOTOS
from unsam.annotations.records import (
    AnnotationSource,
    Entry,
    Failure,
    PhotoRecord,
    Sample,
    image_id_of,
    make_record,
    photo_name,
    read_bytes,
)
from unsam.checkpoint.atomic import atomic_writer
from unsam.errors import DataError

COCO_NAME = "annotations.json"
"""The file's name where only a folder is given."""


class CocoJson(AnnotationSource):
    """Reads a COCO-style JSON; the file is held in memory, photos are not."""

    def __init__(self, path: Path, image_root: str | os.PathLike[str] = "") -> None:
        """Read the file and group annotations by photo.

        Raises:
            DataError: truncated, or not in COCO's layout.
        """
        self.path = path
        content = _parsed(path)
        self._images: list[Any] = _rows(content, "images", path)
        self._number: dict[Any, int] = {}
        self._grouped: list[list[dict[str, Any]]] = [[] for _ in self._images]
        for index, image in enumerate(self._images):
            number = image.get("id") if isinstance(image, dict) else None
            if isinstance(number, (int, str)):
                self._number.setdefault(number, index)
        self._strays = 0
        for item in _rows(content, "annotations", path):
            number = item.get("image_id") if isinstance(item, dict) else None
            place = self._number.get(number) if isinstance(number, (int, str)) else None
            if place is None:
                self._strays += 1
            else:
                self._grouped[place].append(item)
        info = content.get("info")
        stated = str(info.get("image_root") or "") if isinstance(info, dict) else ""
        given = [Path(root).expanduser() for root in (image_root, stated) if os.fspath(root)]
        self.roots = (*given, path.parent / PHOTOS, path.parent)

    def entries(self) -> Iterator[Entry | Failure]:
        """Yield an entry per image, in the order of the file."""
        for index, image in enumerate(self._images):
            if not isinstance(image, dict) or not isinstance(image.get("id"), (int, str)):
                yield Failure(f"{self.path} image {index + 1}", "it has no 'id'")
                continue
            place = f"{self.path} image {image['id']}"
            web = PurePosixPath(str(image.get("coco_url") or "")).name
            name = photo_name("", image.get("file_name") or web)
            if self._number[image["id"]] != index:
                yield Failure(place, "an image with this id was there before")
            elif not name:
                yield Failure(place, "it has no 'file_name'")
            else:
                yield Entry(name, self.path, offset=index)
        if self._strays:
            reason = f"{self._strays} annotations are of images that are not in the file"
            yield Failure(str(self.path), reason)

    def read(self, entry: Entry) -> PhotoRecord:
        """Return one image with its annotations."""
        image, items = self._images[entry.offset], self._grouped[entry.offset]
        raw = {"image": image, "annotations": _with_local_ids(items)}
        return make_record(raw, entry.name, self.place(entry), self.photo_on_disk(entry.name))

    def place(self, entry: Entry) -> str:
        """Return the file and the image's id."""
        return f"{self.path} image {self._images[entry.offset]['id']}"


def coco_path(destination: Path) -> Path:
    """Return the file that a destination stands for: itself, or one in that folder."""
    return destination if destination.suffix == ".json" else destination / COCO_NAME


def write_coco(
    path: Path,
    samples: Iterable[Sample],
    image_root: Path | None = None,
    info: Mapping[str, str] | None = None,
) -> None:
    """Write one COCO JSON, annotation by annotation; of the photos only a list is in memory.

    Annotation ids count from 1; ``local_id`` is the id within the photo where that is another.
    Image ids are kept where they are unique.

    Args:
        path: the JSON file, replaced if it is there.
        samples: records, and the photos that are to be written below ``images`` beside the file.
        image_root: where photos are that stay, for ``info``.
        info: what else ``info`` says.

    Raises:
        StorageError: the disk is full or the folder not writable.
    """
    images: dict[int, dict[str, Any]] = {}
    has_photos = False
    with atomic_writer(path, "w") as stream:
        stream.write('{"annotations":[')
        count = 0
        for record, blob in samples:
            if blob:
                has_photos = True
                with atomic_writer(path.parent / PHOTOS / record.name) as photo:
                    photo.write(blob)
            content = record.to_json()
            number = _free_id(content["image"].pop("image_id"), record.name, images)
            images[number] = {"id": number, **content["image"]}
            count = _write_annotations(stream, content["annotations"], number, count)
        root = path.parent / PHOTOS if has_photos else image_root
        rest = {
            "images": list(images.values()),
            "categories": [{"id": 1, "name": "segment"}],
            "info": {**(info or {}), "image_root": str(root.absolute()) if root else ""},
        }
        stream.write("],\n" + _compact(rest)[1:] + "\n")


def _write_annotations(
    stream: IO[str], annotations: list[dict[str, Any]], image_id: int, count: int
) -> int:
    """Write the annotations of one photo after `count` others; return how many there are now."""
    place = {item["id"]: count + index for index, item in enumerate(annotations, start=1)}
    for item in annotations:
        number = place[item["id"]]
        renamed = {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, **item}
        renamed["id"] = number
        if item["id"] != number:
            renamed["local_id"] = item["id"]
        if "parent_id" in item:
            renamed["parent_id"] = place.get(item["parent_id"], -1)
        if "predicted_iou" in item:
            renamed["score"] = renamed.pop("predicted_iou")
        stream.write(("," if number > 1 else "") + "\n" + _compact(renamed))
    return count + len(annotations)


def _with_local_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give annotations back the ids that they had within their photo."""
    if not any("local_id" in item for item in items):
        return items
    local = {item.get("id"): item.get("local_id", item.get("id")) for item in items}
    restored = []
    for item in items:
        renamed = {key: value for key, value in item.items() if key != "local_id"}
        renamed["id"] = local[item.get("id")]
        if "parent_id" in item:
            renamed["parent_id"] = local.get(item["parent_id"], -1)
        restored.append(renamed)
    return restored


def _free_id(wanted: int, name: str, taken: dict[int, Any]) -> int:
    number = wanted if wanted not in taken else image_id_of(name)
    while number in taken:
        number += 1
    return number


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: truncated or not JSON ({reason})") from None
    if isinstance(content, list):
        raise DataError(
            f"{path}: a list of COCO results has no photo names; give a COCO JSON with 'images'"
        )
    if isinstance(content, dict) and "image" in content:
        raise DataError(f"{path}: the masks of one photo; name the folder that holds it")
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, got a {type(content).__name__}")
    return content


def _rows(content: dict[str, Any], key: str, path: Path) -> list[Any]:
    rows = content.get(key)
    if not isinstance(rows, list):
        known = ", ".join(sorted(map(str, content))[:8]) or "nothing"
        raise DataError(f"{path}: expected a list '{key}' as in COCO files, found {known}")
    return rows


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
