"""One annotated photo in the form that every format here is read into and written from."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from unsam.errors import DataError
from unsam.structures import MaskSet
from unsam.structures.mask_formats import split_sa1b

IMAGE_KEYS = ("image_id", "file_name", "width", "height")
ANNOTATION_KEYS = (
    "id",
    "segmentation",
    "bbox",
    "area",
    "granularity",
    "parent_id",
    "source",
    "predicted_iou",
    "instance_id",
)
"""The order in which keys are written; others follow by name. Equal records give equal bytes."""

HEAD_BYTES = 8192
"""So much of a record is read to learn the name of its photo."""
_IMAGE_FIRST = re.compile(r'\s*\{\s*"image"\s*:\s*')
# Photos that are looked for before a folder counts as theirs.
_PROBES = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that cannot be used: where it is, and why not."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """Where the bytes of a photo are: a file, or a part of one that may be base64 text."""

    path: Path
    offset: int = 0
    size: int = -1
    is_base64: bool = False

    @property
    def is_embedded(self) -> bool:
        """Whether the photo lies inside an annotation file."""
        return self.size >= 0

    def read(self) -> bytes:
        """Return the bytes of the photo.

        Raises:
            DataError: they cannot be read, or are no base64 text.
        """
        blob = read_bytes(self.path, self.offset, self.size)
        if not self.is_base64:
            return blob
        try:
            return base64.b64decode(blob, validate=True)
        except binascii.Error as error:
            raise DataError(f"the photo is not base64 text, or cut off ({error})") from None


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one record is, without its contents; what an index keeps of each photo."""

    name: str
    file: Path
    offset: int = 0
    size: int = -1
    line: int = 0
    photo: PhotoFile | None = None


@dataclass(frozen=True)
class PhotoRecord:
    """One photo and its annotations.

    Attributes:
        name: the photo's file name relative to its root, with forward slashes.
        image: ``image_id``, ``file_name`` (the name), ``width``, ``height`` and what else there is.
        annotations: as of SA-1B, in the project's superset, but without ``segmentation``.
        shapes: the mask of each annotation, crowd regions included.
        photo: where the photo is, None if it was not found.
        sha256: of the photo, "" if not known.
    """

    name: str
    image: dict[str, Any]
    annotations: list[dict[str, Any]] = field(repr=False)
    shapes: MaskSet
    photo: PhotoFile | None = None
    sha256: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` of the upright photo."""
        return self.shapes.size

    def masks(self, default_source: str = "human") -> MaskSet:
        """Return the masks without crowd regions; those that name no source get the default."""
        items = self._objects()
        chosen = self.shapes.filter([index for index, _ in items])
        return chosen.replace(source=[item.get("source", default_source) for _, item in items])

    def has_granularity(self) -> np.ndarray:
        """Return which of `masks` came with a granularity, ``bool [N]``."""
        return np.array(["granularity" in item for _, item in self._objects()], bool)

    def to_json(self) -> dict[str, Any]:
        """Return the SA-1B style record, masks as compressed RLE."""
        boxes, areas = self.shapes.boxes_xywh.tolist(), self.shapes.areas.tolist()
        annotations = []
        for index, (item, rle) in enumerate(zip(self.annotations, self.shapes.rles, strict=True)):
            text = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
            filled = {"bbox": boxes[index], "area": areas[index], **item, "segmentation": text}
            annotations.append(_ordered(filled, ANNOTATION_KEYS))
        return {"image": self.image, "annotations": annotations}

    def _objects(self) -> list[tuple[int, dict[str, Any]]]:
        rows = enumerate(self.annotations)
        return [(index, item) for index, item in rows if not item.get("iscrowd")]


Sample = tuple[PhotoRecord, bytes]
"""A record to be written, and its photo; no bytes for a photo that stays where it is."""


class AnnotationSource(ABC):
    """Files of masks in one format: a stream of entries, and the record behind each.

    Attributes:
        path: the file or folder.
        roots: folders that may hold the photos, the likeliest first.
        supervised: whether a manifest says that masks by people went into these.
    """

    path: Path
    supervised: bool = False
    roots: tuple[Path, ...] = ()

    @abstractmethod
    def entries(self) -> Iterator[Entry | Failure]:
        """Yield where each record is, in a fixed order; what is damaged becomes a `Failure`."""

    @abstractmethod
    def read(self, entry: Entry) -> PhotoRecord:
        """Return the record of an entry.

        Raises:
            DataError: it is damaged; the line says where.
        """

    @abstractmethod
    def place(self, entry: Entry) -> str:
        """Return where an entry is, for a message: the file, and the line if it has many."""

    def photo_root(self) -> Path | None:
        """Return the first of `roots` that holds one of the first photos, None if none does."""
        found = islice((item for item in self.entries() if isinstance(item, Entry)), _PROBES)
        names = [entry.name for entry in found]
        return next(
            (root for root in self.roots if any((root / name).is_file() for name in names)), None
        )

    def photo_on_disk(self, *names: str) -> PhotoFile | None:
        """Return the first file of one of these names below one of `roots`."""
        paths = (root / name for root in self.roots for name in names if name)
        return next((PhotoFile(path) for path in paths if path.is_file()), None)


def make_record(
    raw: Any, name: str, place: str, photo: PhotoFile | None = None, sha256: str = ""
) -> PhotoRecord:
    """Check an SA-1B style record ``{"image": {...}, "annotations": [...]}`` and put it in order.

    Polygons and all kinds of RLE become masks. Ids are kept where they are unique numbers, else
    counted from 1. ``score`` becomes ``predicted_iou``; UnSAMv2's ``is_divide`` gives a source;
    numbers that are not finite are dropped.

    Raises:
        DataError: a part is missing or broken, or the name leads out of its folder.
    """
    try:
        size, items = split_sa1b(raw)
        if min(size) < 1:
            raise DataError(f"the photo is said to be {size[1]}x{size[0]} pixels")
        if not all(isinstance(item, Mapping) for item in items):
            raise DataError("an annotation is not a JSON object")
        annotations = _with_unique_ids([_plain(item) for item in items])
        pairs = zip(annotations, items, strict=True)
        shapes = MaskSet.from_coco(
            [{**item, "segmentation": given.get("segmentation")} for item, given in pairs], size
        )
        image = {**raw["image"], "file_name": safe_name(name)}
        return PhotoRecord(
            safe_name(name),
            _ordered(_with_image_id(image, name), IMAGE_KEYS),
            annotations,
            shapes,
            photo,
            sha256,
        )
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{place}: a field is of the wrong kind ({reason})") from None


def photo_name(place: str, file_name: object) -> str:
    """Return a photo's relative name from where its record is and what the record calls it.

    Args:
        place: relative path of the record without the ending of annotation files.
        file_name: what the record says; "" or None if it says nothing. With a folder it is taken
            as it is; without one the photo lies in the folder of the record.
    """
    given = str(file_name or "")
    if not given:
        return place
    if given.startswith("/"):
        given = PurePosixPath(given).name
    if "/" in given:
        return str(PurePosixPath(given))
    return str(PurePosixPath(place).parent / given)


def safe_name(name: str) -> str:
    """Return a relative name, without ``./``.

    Raises:
        DataError: empty, absolute, or with ``..`` or a NUL in it: it would be written elsewhere.
    """
    path = PurePosixPath(name)
    if not path.name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"the photo name {name!r} is not a path below a folder")
    return str(path)


def image_id_of(name: str) -> int:
    """Return a number for a photo that depends on its relative path alone, below 2^48."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big")


def peek_image(head: bytes) -> dict[str, Any] | None:
    """Return the ``image`` object from the first bytes of a record; None if it is not there."""
    text = head.decode("utf-8", "ignore")
    start = _IMAGE_FIRST.match(text)
    if start is None:
        return None
    try:
        image = json.JSONDecoder().raw_decode(text, start.end())[0]
    except (ValueError, RecursionError):
        return None
    return image if isinstance(image, dict) else None


def name_in_record(head: bytes, whole: Callable[[], bytes], place: str) -> str:
    """Return the photo's name from the first bytes of a record, or from all where that is no use.

    Args:
        head: the first bytes.
        whole: returns the whole record; called if it does not begin with its image.
        place: see `photo_name`; also the name if the record is broken.
    """
    image: Any = peek_image(head)
    if image is None:
        try:
            content = json.loads(whole())
            image = content.get("image") if isinstance(content, dict) else None
        except (ValueError, RecursionError):
            image = None
    return photo_name(place, image.get("file_name") if isinstance(image, dict) else None)


def parse_object(
    blob: bytes, place: str, hook: Callable[[dict[str, Any]], Any] | None = None
) -> dict[str, Any]:
    """Return the JSON object in `blob`; `hook` may replace each inner object, see `json.loads`.

    Raises:
        DataError: truncated, not JSON, or JSON but no object.
    """
    try:
        value = json.loads(blob, object_hook=hook)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{place}: truncated or not JSON ({reason})") from None
    if not isinstance(value, dict):
        raise DataError(f"{place}: expected a JSON object, got a {type(value).__name__}")
    return value


def read_bytes(path: str | os.PathLike[str], offset: int = 0, size: int = -1) -> bytes:
    """Return a part of a file, all of it by default.

    Raises:
        DataError: missing, not readable, not a file, or shorter than that.
    """
    try:
        # A pipe or device of this name would be read for ever.
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise DataError(f"{path}: is a folder, pipe or device, not a file")
        with open(path, "rb") as stream:
            stream.seek(offset)
            blob = stream.read(size)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(blob) < size:
        raise DataError(f"{path}: cut off after {Path(path).stat().st_size} bytes")
    return blob


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an annotation that are kept, in their fixed order, under one name."""
    kept = {
        key: value
        for key, value in item.items()
        if key not in ("segmentation", "image_id", "category_id")
        and not (isinstance(value, float) and not math.isfinite(value))
    }
    if "score" in kept:
        kept["predicted_iou"] = kept.pop("score")
    if not kept.get("iscrowd"):
        kept.pop("iscrowd", None)
    if "is_divide" in kept:
        kept.setdefault("source", "divide" if kept["is_divide"] else "conquer")
    return _ordered(kept, ANNOTATION_KEYS)


def _with_unique_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    given = [item.get("id") for item in items]
    are_numbers = all(isinstance(value, int) for value in given)
    if are_numbers and len(set(given)) == len(items):
        return items
    # Parents that name a number which several masks share, or which none has, are unknown.
    are_names = all(isinstance(value, (int, str)) for value in given)
    is_unique = are_names and len(set(given)) == len(items)
    number = {value: index for index, value in enumerate(given, start=1)} if is_unique else {}
    numbered = []
    for index, item in enumerate(items, start=1):
        renamed = {**item, "id": index}
        if "parent_id" in item:
            renamed["parent_id"] = number.get(item["parent_id"], -1)
        numbered.append(_ordered(renamed, ANNOTATION_KEYS))
    return numbered


def _with_image_id(image: dict[str, Any], name: str) -> dict[str, Any]:
    given = image.pop("id", None)
    number = image.get("image_id", given)
    image["image_id"] = number if isinstance(number, int) else image_id_of(name)
    return {**image, "width": int(image["width"]), "height": int(image["height"])}


def _ordered(item: Mapping[str, Any], first: tuple[str, ...]) -> dict[str, Any]:
    rest = sorted(key for key in item if key not in first)
    return {key: item[key] for key in (*first, *rest) if key in item}
