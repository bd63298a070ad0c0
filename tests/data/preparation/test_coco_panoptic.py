from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unsam.data import get_dataset
from unsam.data.datasets import BENCHMARKS
from unsam.data.datasets.record import ImageRecord
from unsam.data.preparation.coco_panoptic import prepare_coco_panoptic
from unsam.errors import DataError

Download = tuple[Path, Path, ImageRecord]


@pytest.fixture
def download(data_root: Path, tmp_path: Path) -> Download:
    """The real photo, its segments painted back into a PNG of the published encoding."""
    (record,) = get_dataset("entity_val")
    rows = record.load_annotations()
    masks = record.decode(rows)
    labels = np.zeros(record.size, np.int64)
    segments: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        number = 1 + 40503 * index
        labels[masks.mask(index)] = number
        segments.append({"id": number, "category_id": 7, "iscrowd": row["iscrowd"]})
    channels = np.stack([labels % 256, labels // 256 % 256, labels // 65536], -1)
    folder = tmp_path / "panoptic_val2017"
    folder.mkdir()
    Image.fromarray(channels.astype(np.uint8)).save(folder / "000000439180.png")
    height, width = record.size
    name = Path(record.file_name).name
    content = {
        "images": [{"id": 439180, "file_name": name, "height": height, "width": width}],
        "annotations": [
            {"image_id": 439180, "file_name": "000000439180.png", "segments_info": segments}
        ],
        "categories": [{"id": 7, "name": "grass", "isthing": 0}],
    }
    file = tmp_path / "panoptic_val2017.json"
    file.write_text(json.dumps(content))
    return file, folder, record


def test_every_segment_is_a_mask_and_void_is_none(download: Download, tmp_path: Path) -> None:
    file, folder, record = download
    target = tmp_path / "out" / "annotations" / "coco_panoptic_val.json"
    photos = [Path(record.file_name).parent]
    prepare_coco_panoptic(file, folder, photos, target)
    (made,) = get_dataset(str(target))
    assert made.image_id == 439180
    np.testing.assert_array_equal(made.masks().masks(), record.masks().masks())
    np.testing.assert_array_equal(made.crowd().masks(), record.crowd().masks())
    row = made.load_annotations()[0]
    assert (row["isthing"], row["source_category"], row["level"]) == (0, "grass", 0)
    counts = BENCHMARKS["unsam_coco_panoptic_val"].counts
    with pytest.raises(DataError, match="found 1 photos, expected 5,000, 4,999 are missing"):
        prepare_coco_panoptic(file, folder, photos, target, counts=counts)


def test_bad_downloads_give_one_line(download: Download, tmp_path: Path) -> None:
    file, folder, record = download
    target, photos = tmp_path / "out.json", [Path(record.file_name).parent]
    whole = json.loads(file.read_text())

    def refused(message: str, *, text: str = "", images: list[Path] | None = None) -> None:
        file.write_text(text or json.dumps(whole))
        with pytest.raises(DataError, match=message) as caught:
            prepare_coco_panoptic(file, folder, images or photos, target)
        assert "\n" not in str(caught.value)
        assert not target.exists()

    refused("truncated or not JSON", text=json.dumps(whole)[:-40])
    twice = json.dumps({**whole, "images": whole["images"] * 2})
    refused("two images have the id 439180", text=twice)
    refused(
        "439180: expected one annotation .* got 0", text=json.dumps({**whole, "annotations": []})
    )
    (tmp_path / "none").mkdir()
    refused(r"1 of 1 photos of .*000000439180\.jpg", images=[tmp_path / "none"])
    extra = json.loads(json.dumps(whole))
    extra["annotations"][0]["segments_info"].append({"id": 5, "category_id": 7})
    refused(r"439180\.png: 1 segments are not both drawn and listed, as 5", text=json.dumps(extra))
    png = folder / "000000439180.png"
    pixels = np.asarray(Image.open(png))
    Image.fromarray(pixels[:50]).save(png)
    refused(r"439180\.png: of shape \(50, 640, 3\), expected \(360, 640, 3\)")
    png.write_bytes(png.read_bytes()[:100])
    refused(r"439180\.png: a damaged mask image")
    png.unlink()
    refused(r"439180\.png: no such file")
