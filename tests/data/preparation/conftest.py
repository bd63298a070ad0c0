"""Tiny downloads in the layout of the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

SIZE = (12, 16)


def write_photo(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([rows * 9, columns * 7, rows + columns], -1).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def square(left: int, top: int, side: int) -> list[list[int]]:
    right, bottom = left + side, top + side
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture
def coco_download(tmp_path: Path) -> tuple[Path, Path]:
    """A JSON and a folder of photos: an object, its part, a crowd region, in two photos."""
    photos = tmp_path / "download" / "val2017"
    for number in (4, 9):
        write_photo(photos / f"{number:012d}.jpg")
    shared: dict[str, Any] = {"image_id": 9, "category_id": 7}
    rows = [
        {**shared, "id": 50, "segmentation": square(2, 2, 8), "area": 60.5, "obj_ann_id": 50},
        {**shared, "id": 51, "segmentation": square(3, 3, 2), "area": 4.0, "obj_ann_id": 50},
        {**shared, "id": 52, "segmentation": square(0, 0, 2), "area": 4.0, "iscrowd": 1}
        | {"obj_ann_id": 52, "image_id": 4, "attributes": [1, 2]},
    ]
    images: list[dict[str, Any]] = [
        {"id": 9, "file_name": "val2017/000000000009.jpg"},
        {"id": 4, "coco_url": "http://images.cocodataset.org/val2017/000000000004.jpg"},
    ]
    images = [{**image, "height": SIZE[0], "width": SIZE[1]} for image in images]
    content = {"images": images, "annotations": rows, "categories": [{"id": 7, "name": "cup"}]}
    file = tmp_path / "download" / "instances_val2017.json"
    file.write_text(json.dumps(content))
    return file, photos
