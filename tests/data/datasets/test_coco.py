from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from unsam.data.datasets import load_coco_json
from unsam.errors import DataError

IMAGE = {"id": 3, "file_name": "a.jpg", "height": 8, "width": 10}


def write(folder: Path, content: Any) -> Path:
    (folder / "a.jpg").write_bytes(b"")
    path = folder / "truth.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def annotation(segmentation: Any, **fields: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 3, "segmentation": segmentation} | fields


def test_every_kind_of_segmentation(tmp_path: Path) -> None:
    square = np.zeros((8, 10), np.uint8)
    square[2:5, 3:7] = 1
    compressed = coco_mask.encode(np.asfortranarray(square))
    compressed = {"size": [8, 10], "counts": compressed["counts"].decode()}
    flat = np.concatenate([[0], square.ravel(order="F"), [0]])
    edges = np.flatnonzero(np.diff(flat))
    uncompressed = {"size": [8, 10], "counts": np.diff([0, *edges, 80]).tolist()}
    polygon = [[3, 2, 7, 2, 7, 5, 3, 5]]
    rows = [annotation(item, id=i) for i, item in enumerate((compressed, uncompressed, polygon))]
    content = {"images": [IMAGE], "annotations": rows}
    (record,) = load_coco_json(write(tmp_path, content))
    for mask in record.masks().masks():
        np.testing.assert_array_equal(mask, square.astype(bool))


def test_polygons_are_rasterised_as_pycocotools_does(data_root: Path) -> None:
    path = data_root / "fashionpedia_sample" / "original_sample.json"
    oracle = COCO(str(path))
    for record in load_coco_json(path):
        masks = record.masks()
        for index, item in enumerate(record.load_annotations()):
            np.testing.assert_array_equal(masks.mask(index), oracle.annToMask(item) > 0)


def test_crowd_regions_are_apart(tmp_path: Path) -> None:
    polygon = [[0, 0, 4, 0, 4, 4, 0, 4]]
    rows = [annotation(polygon, id=1), annotation(polygon, id=2, iscrowd=1)]
    (record,) = load_coco_json(write(tmp_path, {"images": [IMAGE], "annotations": rows}))
    assert (len(record.masks()), len(record.crowd())) == (1, 1)


def test_parents_follow_annotation_ids(data_root: Path) -> None:
    record = load_coco_json(data_root / "clothing_parts" / "clothing_parts_val.json")[0]
    masks = record.masks()
    ids = [item["id"] for item in record.load_annotations()]
    for index, item in enumerate(record.load_annotations()):
        expected = ids.index(item["parent_id"]) if item.get("parent_id") in ids else -1
        assert masks.parent[index] == expected
    assert (masks.parent >= 0).any()


def test_records_come_in_order_of_their_ids(tmp_path: Path) -> None:
    images = [IMAGE | {"id": number} for number in (9, 2, 5)]
    path = write(tmp_path, {"images": images, "annotations": []})
    assert [record.image_id for record in load_coco_json(path)] == [2, 5, 9]


def test_photos_in_another_folder(tmp_path: Path) -> None:
    path = write(tmp_path, {"images": [IMAGE], "annotations": []})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(DataError, match="1 of 1 photos are missing"):
        load_coco_json(path, elsewhere)
    (elsewhere / "a.jpg").write_bytes(b"")
    (record,) = load_coco_json(path, elsewhere)
    assert record.file_name == str(elsewhere.resolve() / "a.jpg")


GOOD = {"images": [IMAGE], "annotations": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(GOOD)[:40], "truncated or not JSON"),
        ("", "truncated or not JSON"),
        ([GOOD], "expected a JSON object, got a list"),
        ({"annotations": []}, "expected a list 'images'"),
        ({"images": [IMAGE]}, "expected a list 'annotations'"),
        ({"images": [], "annotations": []}, "no image in it"),
        ({"images": [IMAGE, IMAGE], "annotations": []}, "two images have the id 3"),
        ({"images": [{"id": 1}], "annotations": []}, "image 1 has no 'file_name'"),
        ({"images": [{"file_name": "a.jpg"}], "annotations": []}, "an image has no 'id'"),
        ({"images": [IMAGE | {"height": 0}], "annotations": []}, "10x0 pixels"),
        ({"images": [IMAGE | {"width": "wide"}], "annotations": []}, "'width' must be a number"),
        ({"images": [IMAGE], "annotations": [{"id": 4}]}, "annotation 4 has no 'image_id'"),
        ({"images": [IMAGE], "annotations": [annotation([], image_id=8)]}, "image 8, which is not"),
    ],
)
def test_bad_files_give_one_line(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_coco_json(write(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert "truth.json" in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_coco_json(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [10, 8], "counts": [80]}, r"of size \[10, 8\], its image of \[8, 10\]"),
        ({"size": [8, 10], "counts": [79]}, "do not add up"),
        ({"size": [8, 10]}, "'size' .* and 'counts'"),
        (None, "no segmentation"),
    ],
)
def test_bad_masks_name_photo_and_annotation(
    tmp_path: Path, segmentation: Any, message: str
) -> None:
    content = {"images": [IMAGE], "annotations": [annotation(segmentation)]}
    (record,) = load_coco_json(write(tmp_path, content))
    with pytest.raises(DataError, match=message) as caught:
        record.masks()
    assert "a.jpg" in str(caught.value)
    assert "annotation 1" in str(caught.value)
