"""Masks are found by the name of their photo, in every format, without being read before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.annotations.conftest import nested_masks
from unsam.annotations.convert import convert_annotations
from unsam.annotations.formats import FORMATS
from unsam.annotations.index import AnnotationIndex
from unsam.errors import DataError
from unsam.structures import MaskSet

NAMES = ("train/1.jpg", "val/1.jpg", "val/2.jpg", "ü.x.png")


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Path:
    return make_folder("masks", {name: nested_masks(i) for i, name in enumerate(NAMES)})


@pytest.mark.parametrize("to", FORMATS)
def test_masks_by_name_in_every_format(folder: Path, tmp_path: Path, to: str) -> None:
    convert_annotations(folder, tmp_path / "out", to, rows_per_file=3)
    index = AnnotationIndex.open(tmp_path / "out")
    assert [entry.name for entry in index] == sorted(NAMES)
    for number, name in enumerate(NAMES):
        assert index.masks_of(name, (24, 36)) == nested_masks(number)


def test_the_stem_counts_where_the_name_is_not_there(folder: Path) -> None:
    index = AnnotationIndex.open(folder)
    assert index.masks_of("2.png", (24, 36)) == nested_masks(2)
    assert index.masks_of("deep/val/2.png", (24, 36)) == nested_masks(2)
    assert index.masks_of("val/1.tif", (24, 36)) == nested_masks(1)
    assert index.masks_of("./val/1.jpg", (24, 36)) == nested_masks(1)
    # Two photos are called 1, and photos of other folders are other photos.
    assert index.masks_of("1.jpg", (24, 36)) is None
    assert index.masks_of("train/2.jpg", (24, 36)) is None
    assert index.masks_of("3.jpg", (24, 36)) is None


def test_names_are_equal_in_both_unicode_forms(folder: Path) -> None:
    index = AnnotationIndex.open(folder)
    assert index.masks_of("u\u0308.x.png", (24, 36)) == nested_masks(3)


def test_extracted_sa1b_without_manifest(data_root: Path) -> None:
    index = AnnotationIndex.open(data_root / "sa1b_layout")
    raw = json.loads((data_root / "sa1b_layout" / "layout_000003.json").read_bytes())
    masks = index.masks_of("layout_000003.jpg", (321, 481))
    assert masks == MaskSet.from_sa1b(raw)
    assert set(masks.source) == {"human"}


def test_a_real_coco_file(data_root: Path) -> None:
    index = AnnotationIndex.open(data_root / "coco" / "coco_val.json")
    content = json.loads((data_root / "coco" / "coco_val.json").read_bytes())
    assert len(index) == len(content["images"])
    for image in content["images"]:
        rows = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        objects = [a for a in rows if not a["iscrowd"]]
        size = (image["height"], image["width"])
        assert index.masks_of(image["file_name"], size) == MaskSet.from_coco(objects, size)


def test_no_photo_is_read_and_few_bytes_of_masks(folder: Path, tmp_path: Path) -> None:
    """The index of a tar works when the contents of the photos are gone."""
    convert_annotations(folder, tmp_path / "out", "webdataset")
    index = AnnotationIndex.open(tmp_path / "out")
    for entry in index:
        assert entry.photo is not None
        with entry.file.open("r+b") as stream:
            stream.seek(entry.photo.offset)
            stream.write(bytes(entry.photo.size))
    assert index.masks_of(NAMES[0], (24, 36)) == nested_masks(0)


def test_damage_is_reported_when_it_is_asked_for(folder: Path) -> None:
    os.truncate(folder / "val/2.jpg.json", 700)
    index = AnnotationIndex.open(folder)
    assert index.masks_of("val/1.jpg", (24, 36)) == nested_masks(1)
    with pytest.raises(DataError, match=r"val/2\.jpg\.json: truncated or not JSON"):
        index.masks_of("val/2.jpg", (24, 36))
    with pytest.raises(DataError, match=r"masks of size \(24, 36\), photo of \(36, 24\)"):
        index.masks_of("val/1.jpg", (36, 24))


def test_two_records_of_a_photo_are_an_error_when_it_is_asked_for(
    folder: Path, tmp_path: Path
) -> None:
    convert_annotations(folder, tmp_path / "out", "tsv")
    rows = (tmp_path / "out" / "SAM-0.tsv").read_bytes().splitlines(keepends=True)
    (tmp_path / "out" / "SAM-1.tsv").write_bytes(rows[0])
    index = AnnotationIndex.open(tmp_path / "out")
    with pytest.raises(DataError, match=r"SAM-0\.tsv line 1 and .*SAM-1\.tsv line 1: two records"):
        index.masks_of(sorted(NAMES)[0], (24, 36))
    assert index.masks_of(NAMES[2], (24, 36)) == nested_masks(2)


def test_nothing_to_index_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"no photo with masks in it \(.*line 1: expected key"):
        AnnotationIndex.open(tmp_path / "x.tsv")
