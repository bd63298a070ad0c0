"""How each person cut a photo, from the annotations of a record."""

from __future__ import annotations

from typing import Any

import numpy as np

from unsam.data import ImageRecord
from unsam.data.datasets.record import is_crowd
from unsam.errors import DataError
from unsam.structures import MaskSet


def annotator_partitions(record: ImageRecord) -> list[np.ndarray]:
    """Return one label map per annotator of a photo, ``int64 [H, W]`` with labels from 0.

    Annotations with an ``annotator`` (BSDS500) are grouped by it, and each group must cover the
    photo exactly once. Where there is none (COCO and others) all masks are one person's, and the
    label map is the arrangement of `arrangement`. Crowd regions are left out.

    Raises:
        DataError: an annotator's masks overlap or leave pixels out, or only some annotations have
            an annotator; or as `ImageRecord.decode`.
    """
    size, annotations = record.read_annotations()
    groups: dict[Any, list[dict[str, Any]]] = {}
    for item in annotations:
        if not is_crowd(item):
            groups.setdefault(item.get("annotator"), []).append(item)
    if None in groups and len(groups) > 1:
        raise DataError(f"{record.file_name}: some annotations have an annotator, some have none")
    if None in groups or not groups:
        return [arrangement(record.decode(groups.get(None, []), size))]
    people = []
    for name in sorted(groups):
        masks = record.decode(groups[name], size)
        labels = masks.label_map()
        if labels.min() < 0 or masks.areas.sum() != labels.size:
            raise DataError(
                f"{record.file_name}: the masks of annotator {name} do not cover the photo exactly "
                "once; evaluate on all regions (bsds500_val_all), not on a selection"
            )
        people.append(labels.astype(np.int64))
    return people


def arrangement(masks: MaskSet) -> np.ndarray:
    """Return the partition that masks cut a photo into, overlapping or not.

    Two pixels have the same label if and only if the same masks hold both. Every mask gets a
    random number of 64 bits and every pixel the sum of its masks' (modulo 2^64), so the work is
    that of one pass over the runs; that two sums are equal by chance will not happen in practice.

    Returns:
        ``int64 [H, W]``, labels from 0.
    """
    height, width = masks.size
    codes = np.random.default_rng(0).integers(2**64, size=len(masks), dtype=np.uint64)
    codes = np.repeat(codes, np.diff(masks.offsets))
    change = np.zeros(height * width + 1, np.uint64)
    np.add.at(change, masks.runs[:, 0], codes)
    np.subtract.at(change, masks.runs[:, 1], codes)
    sums = np.cumsum(change[:-1], dtype=np.uint64).reshape(width, height).T
    return np.unique(sums, return_inverse=True)[1].reshape(height, width).astype(np.int64)
