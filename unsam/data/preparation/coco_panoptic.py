"""COCO panoptic: the segments, things and stuff, of a JSON with a PNG per photo."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.datasets.record import ImageRecord
from unsam.data.preparation.coco_style import Categories, prepare_json_download
from unsam.data.preparation.mask_images import read_label_image
from unsam.errors import DataError
from unsam.structures import MaskSet


def prepare_coco_panoptic(
    annotations: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    counts: PublishedCounts | None = None,
    progress: bool = False,
) -> str:
    """Write COCO panoptic segments as class-agnostic COCO JSON (Kirillov et al., CVPR 2019).

    A pixel's segment is ``R + 256 G + 65536 B``; 0 is no segment and no mask. Every other segment
    is one mask, with ``isthing`` and ``source_category``, and is the target of one click in
    Point(Max) and Point(Oracle) unless it is a crowd region (UnSAM's evaluation of its promptable
    model, after Semantic-SAM's).

    Args:
        annotations: ``panoptic_val2017.json``.
        masks: folder of its PNG.
        images: folders of the photos.
        output: the JSON to write; its folder of photos gets links to these.
        counts: that the set must have, None for a part of it.
        progress: show a bar on standard error.

    Returns:
        One line on what was written.

    Raises:
        DataError: as `prepare_coco_style`; or PNG are missing, damaged, of another size, or with
            other segments than the JSON says.
        StorageError: the disk is full or the folder not writable.
    """
    folder = Path(masks).expanduser()

    def rows(record: ImageRecord, categories: Categories) -> list[dict[str, Any]]:
        items = record.load_annotations()
        if len(items) != 1 or not {"file_name", "segments_info"} <= items[0].keys():
            raise DataError(
                f"image {record.image_id}: expected one annotation with 'file_name' and "
                f"'segments_info' as of COCO panoptic, got {len(items)} annotations"
            )
        return _segments(folder / items[0]["file_name"], record.size, items[0], categories)

    words: dict[str, Any] = {"counts": counts, "progress": progress}
    return prepare_json_download(annotations, images, output, rows, **words)


def _segments(
    path: Path, size: tuple[int, int], item: dict[str, Any], categories: Categories
) -> list[dict[str, Any]]:
    pixels = read_label_image(path).astype(np.int64)
    if pixels.shape != (*size, 3):
        raise DataError(f"{path}: of shape {pixels.shape}, expected {(*size, 3)} as its photo")
    labels = pixels @ np.array([1, 1 << 8, 1 << 16])
    segments = {segment["id"]: segment for segment in item["segments_info"]}
    drawn = np.setdiff1d(labels, [0]).tolist()
    if set(drawn) != set(segments):
        odd = sorted(set(drawn) ^ set(segments))
        raise DataError(f"{path}: {len(odd)} segments are not both drawn and listed, as {odd[0]}")
    masks = MaskSet.from_label_map(labels, background=0)
    rows = []
    for number, rle in zip(drawn, masks.rles, strict=True):
        segment = segments[number]
        category = categories.get(segment.get("category_id"), {})
        row = {"id": number, "segmentation": rle, "level": 0}
        row["iscrowd"] = int(segment.get("iscrowd", 0))
        row["isthing"] = int(category.get("isthing", 0))
        row["source_category"] = str(category.get("name", segment.get("category_id")))
        rows.append(row)
    return rows
