from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.preparation.conftest import SIZE, write_photo
from unsam.data import get_dataset
from unsam.data.preparation.ade20k import prepare_ade20k
from unsam.errors import DataError


def write_map(path: Path, boxes: list[tuple[int, int, slice, slice]]) -> None:
    """Paint (class, instance, rows, columns) as the release encodes it."""
    pixels = np.zeros((*SIZE, 3), np.uint8)
    for kind, instance, rows, columns in boxes:
        pixels[rows, columns] = (kind // 256 * 10, kind % 256, instance)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    folder = tmp_path / "ADE" / "validation"
    photo = write_photo(folder / "urban" / "street" / "ADE_val_00000001.jpg")
    stem = str(photo).removesuffix(".jpg")
    objects = [
        (976, 40, slice(0, 6), slice(0, 8)),
        (976, 41, slice(0, 6), slice(8, 16)),
        (2978, 0, slice(6, 9), slice(0, 16)),
    ]
    write_map(Path(f"{stem}_seg.png"), objects)
    # A wheel on the second car that sticks out by one row, and a rim in it.
    write_map(Path(f"{stem}_parts_1.png"), [(3000, 200, slice(3, 7), slice(9, 12))])
    write_map(Path(f"{stem}_parts_2.png"), [(800, 10, slice(4, 5), slice(10, 11))])
    return folder


def test_objects_parts_and_parts_of_parts(split: Path, tmp_path: Path) -> None:
    target = tmp_path / "ade20k" / "ade20k_val.json"
    assert prepare_ade20k(split, target) == f"1 photos, 5 masks in {target}"
    (record,) = get_dataset(str(target))
    assert record.file_name.endswith("images/validation/urban/street/ADE_val_00000001.jpg")
    rows = record.load_annotations()
    assert [row["level"] for row in rows] == [0, 0, 0, 1, 2]
    assert [row["source_class"] for row in rows] == [976, 976, 2978, 3000, 800]
    assert record.masks().areas.tolist() == [48, 48, 48, 12, 1]
    assert record.masks().parent.tolist() == [-1, -1, -1, 1, 3]
    np.testing.assert_array_equal(np.argwhere(record.masks().mask(4)), [[4, 10]])


def test_half_downloads_are_refused(split: Path, tmp_path: Path) -> None:
    target = tmp_path / "ade20k_val.json"
    write_photo(split / "home" / "ADE_val_00000002.jpg")
    with pytest.raises(DataError, match=r"1 of 2 maps of objects .*ADE_val_00000002_seg\.png"):
        prepare_ade20k(split, target)
    (split / "home" / "ADE_val_00000002.jpg").unlink()
    parts = next(split.rglob("*_parts_1.png"))
    Image.new("RGB", (5, 5), (10, 1, 1)).save(parts)
    with pytest.raises(DataError, match=r"_parts_1\.png: of size \(5, 5\), the map of objects of"):
        prepare_ade20k(split, target)
    parts.write_bytes(parts.read_bytes()[:40])
    with pytest.raises(DataError, match=r"_parts_1\.png: "):
        prepare_ade20k(split, target)
    with pytest.raises(DataError, match="no photo"):
        prepare_ade20k(tmp_path / "nothing", target)
    assert not target.exists()
