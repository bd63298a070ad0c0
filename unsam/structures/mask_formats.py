"""Masks in the formats that people exchange: COCO RLE and polygons, COCO and SA-1B JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco_mask

from unsam.errors import DataError
from unsam.structures import run_codec

if TYPE_CHECKING:
    from unsam.structures.mask_set import MaskSet


def rle_to_runs(rle: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Return the runs ``int32 [R, 2]`` of one COCO RLE, compressed or a list of lengths.

    Raises:
        DataError: another size than ``(H, W)``, broken text, or lengths that do not add up.
    """
    try:
        given = (int(rle["size"][0]), int(rle["size"][1]))
        counts = rle["counts"]
    except (KeyError, IndexError, TypeError, ValueError):
        raise DataError("an RLE needs 'size' [height, width] and 'counts'") from None
    if given != tuple(size):
        raise DataError(f"an RLE is of size {list(given)}, its image of {list(size)}")
    if isinstance(counts, str):
        counts = counts.encode("ascii", errors="replace")
    if isinstance(counts, (bytes, bytearray)):
        lengths = run_codec.decode_text(np.frombuffer(counts, np.uint8))
    else:
        try:
            lengths = np.asarray(counts, np.int64).reshape(-1)
        except (TypeError, ValueError, OverflowError):
            raise DataError("the counts of an RLE must be text or a list of numbers") from None
    runs = run_codec.counts_to_runs(lengths, size[0] * size[1])
    if runs.size and runs[0, 0] < 0:
        raise DataError(f"the counts of an RLE do not add up to {size[0]}x{size[1]} pixels")
    return runs


def segmentation_to_runs(annotation: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Return the runs of one COCO annotation, whose segmentation is an RLE or polygons.

    Raises:
        DataError: no segmentation, or one that cannot be read.
    """
    segmentation = annotation.get("segmentation")
    name = f"annotation {annotation.get('id', '?')}"
    if isinstance(segmentation, Mapping):
        try:
            return rle_to_runs(segmentation, size)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, (str, bytes)):
        try:
            polygons = [np.asarray(item, np.float64).tolist() for item in segmentation]
            polygons = [item for item in polygons if len(item) >= 6]
            if not polygons:
                return np.zeros((0, 2), np.int32)
            merged = coco_mask.merge(coco_mask.frPyObjects(polygons, size[0], size[1]))
        except (TypeError, ValueError) as error:
            raise DataError(f"{name}: its polygons cannot be read ({error})") from None
        return rle_to_runs(merged, size)
    raise DataError(f"{name}: no segmentation (an RLE or a list of polygons)")


def fields_of_annotations(annotations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the constructor fields of a `MaskSet` that a list of annotations holds."""
    place = {item["id"]: index for index, item in enumerate(annotations) if "id" in item}
    fields: dict[str, Any] = {
        "score": [float(item.get("score", item.get("predicted_iou", 1.0))) for item in annotations],
        "granularity": [_granularity(item) for item in annotations],
        "parent": [place.get(item.get("parent_id"), -1) for item in annotations],
        "source": [str(item.get("source", "human")) for item in annotations],
    }
    return fields if annotations else {}


def _granularity(annotation: Mapping[str, Any]) -> float:
    """Return the granularity, clipped to [0.1, 1]; 1 for none, NaN or infinity, as UnSAMv2."""
    value = float(annotation.get("granularity", 1.0))
    return min(max(value, 0.1), 1.0) if math.isfinite(value) else 1.0


def split_sa1b(record: Mapping[str, Any]) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Return ``((H, W), annotations)`` of an SA-1B style record.

    Raises:
        DataError: ``image`` with its size, or ``annotations``, is missing.
    """
    try:
        image = record["image"]
        size = (int(image["height"]), int(image["width"]))
        annotations = list(record["annotations"])
    except (KeyError, TypeError, ValueError):
        raise DataError("expected 'image' with 'height' and 'width', and 'annotations'") from None
    return size, annotations


def to_coco(masks: MaskSet, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """Return one COCO annotation per mask; ids count from `first_id`."""
    boxes, areas = masks.boxes_xywh.tolist(), masks.areas.tolist()
    return [
        {
            "id": first_id + index,
            "image_id": image_id,
            "category_id": 1,
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            "bbox": boxes[index],
            "area": areas[index],
            "iscrowd": 0,
            "score": _short(masks.score[index]),
            "granularity": _short(masks.granularity[index]),
            "parent_id": first_id + parent if (parent := int(masks.parent[index])) >= 0 else -1,
            "source": str(masks.source[index]),
        }
        for index, rle in enumerate(masks.rles)
    ]


def to_sa1b(masks: MaskSet, file_name: str, image_id: int) -> dict[str, Any]:
    """Return an SA-1B style record; ``instance_id`` numbers the trees of parents from 0."""
    root = np.where(masks.parent >= 0, masks.parent, np.arange(len(masks)))
    for _ in range(len(masks)):
        above = root[root]
        if np.array_equal(above, root):
            break
        root = above
    instance = np.unique(root, return_inverse=True)[1].reshape(-1)
    annotations = to_coco(masks, image_id, first_id=1)
    for index, item in enumerate(annotations):
        del item["image_id"], item["category_id"], item["iscrowd"]
        item["predicted_iou"] = item.pop("score")
        item["instance_id"] = int(instance[index])
    height, width = masks.size
    image = {"image_id": image_id, "file_name": file_name, "width": width, "height": height}
    return {"image": image, "annotations": annotations}


def _short(value: np.float32) -> float:
    """Return a float32 as the shortest decimal that reads back as the same float32."""
    return float(np.format_float_positional(value, unique=True))
