from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unsam.data import get_dataset
from unsam.data.datasets.pseudo_masks import split_pseudo_masks
from unsam.errors import DataError
from unsam.structures import MaskSet

NAMES = ("a/b.jpg", "c d.png")


def masks(seed: int) -> MaskSet:
    labels = np.random.default_rng(seed).integers(0, 3, (6, 9))
    parents = [-1, 0, 0]
    return MaskSet.from_label_map(
        labels, granularity=[1.0, 0.5, 0.25], parent=parents, source="conquer"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos, out = tmp_path / "photos", tmp_path / "out"
    images: dict[str, Any] = {}
    for number, name in enumerate(NAMES):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(b"")
        file = out / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(masks(number).to_sa1b(name, image_id=number)))
        images[name] = {"sha256": "", "masks": 3, "json": f"{name}.json"}
    manifest = {"version": 1, "image_root": str(photos), "images": images, "failures": {}}
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def test_masks_and_fields_come_back(folder: Path) -> None:
    records = get_dataset(str(folder))
    assert [record.image_id for record in records] == [1, 2]
    for number, record in enumerate(records):
        assert record.file_name.endswith(NAMES[number])
        assert record.size == (6, 9)
        assert record.masks() == masks(number)


def test_sizes_in_the_manifest_save_reading_the_files(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in NAMES:
        manifest["images"][name] |= {"height": 6, "width": 9}
        (folder / f"{name}.json").write_text("")
    path.write_text(json.dumps(manifest))
    records = get_dataset(str(folder))
    assert [record.size for record in records] == [(6, 9), (6, 9)]
    with pytest.raises(DataError, match="truncated"):
        records[0].masks()


def test_photos_may_have_moved(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"2 of 2 photos are missing, the first is .*a/b\.jpg"):
        get_dataset(str(folder))
    records = get_dataset(str(folder), image_root=str(tmp_path / "moved"))
    assert all(Path(record.file_name).is_file() for record in records)


def test_missing_mask_files(folder: Path) -> None:
    (folder / "c d.png.json").unlink()
    with pytest.raises(DataError, match=r"1 of 2 mask files are missing, the first is .*c d\.png"):
        get_dataset(str(folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": {"a', "truncated or not JSON"),
        ("{}", "expected 'images'"),
        ('{"images": {}, "failures": {"x.jpg": "corrupt"}}', r"no photo with masks .*\(1 failures"),
    ],
)
def test_broken_manifests(folder: Path, text: str, message: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=message):
        get_dataset(str(folder))


def test_masks_of_another_photo(folder: Path) -> None:
    records = get_dataset(str(folder))
    other = MaskSet.from_label_map(np.zeros((2, 2), int))
    (folder / "a/b.jpg.json").write_text(json.dumps(other.to_sa1b("a/b.jpg")))
    with pytest.raises(DataError, match=r"masks of size \(2, 2\), photo of \(6, 9\)"):
        records[0].masks()


def test_a_split_is_two_datasets_over_the_same_files(folder: Path, tmp_path: Path) -> None:
    train, held_out = split_pseudo_masks(folder, tmp_path / "t", tmp_path / "h", 0.5, seed=3)
    sides = [get_dataset(str(side)) for side in (train, held_out)]
    names = [record.file_name for side in sides for record in side]
    assert sorted(names) == [record.file_name for record in get_dataset(str(folder))]
    assert all(len(side) == 1 for side in sides)
    for (record,) in sides:
        assert record.masks() == masks([record.file_name.endswith(n) for n in NAMES].index(True))
    again = split_pseudo_masks(folder, tmp_path / "t2", tmp_path / "h2", 0.5, seed=3)
    assert [r.file_name for r in get_dataset(str(again[0]))] == [sides[0][0].file_name]


def test_one_photo_cannot_be_split(folder: Path, tmp_path: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["images"][NAMES[0]]
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="1 photos with masks; at least 2"):
        split_pseudo_masks(folder, tmp_path / "t", tmp_path / "h", 0.2)
