from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.preparation.conftest import write_photo
from unsam.data import get_dataset
from unsam.data.datasets import BENCHMARKS
from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.preparation.coco_style import (
    objects_and_parts,
    parts_only,
    prepare_coco_style,
)
from unsam.data.preparation.draw import draw
from unsam.errors import DataError

Download = tuple[Path, Path]


def test_a_prepared_set_trains_and_keeps_what_is_published(
    coco_download: Download, tmp_path: Path
) -> None:
    file, photos = coco_download
    target = tmp_path / "data" / "coco" / "coco_val.json"
    line = prepare_coco_style(file, [photos], target)
    assert line == f"2 photos, 3 masks in {target}"
    first, second = get_dataset(str(target))
    assert (first.image_id, second.image_id) == (4, 9)
    assert second.file_name == str(target.parent / "images" / "val2017" / "000000000009.jpg")
    assert second.read_photo().shape == (12, 16, 3)
    assert (len(first.masks()), len(first.crowd())) == (0, 1)
    assert second.masks().areas.tolist() == [64, 4]
    item = second.load_annotations()[0]
    assert (item["area"], item["level"], item["source_category"]) == (60.5, 0, "cup")
    assert (item["category_id"], item["iscrowd"], item["local_id"]) == (1, 0, 50)
    assert isinstance(item["segmentation"]["counts"], str)
    assert "attributes" not in first.load_annotations()[0]


def test_again_gives_the_same_bytes(coco_download: Download, tmp_path: Path) -> None:
    file, photos = coco_download
    target = tmp_path / "coco" / "coco_val.json"
    prepare_coco_style(file, [photos], target)
    before = target.read_bytes()
    prepare_coco_style(file, [photos], target)
    assert target.read_bytes() == before


def test_parts_point_at_their_objects(coco_download: Download, tmp_path: Path) -> None:
    file, photos = coco_download
    target = tmp_path / "paco_val.json"
    prepare_coco_style(file, [photos], target, describe=objects_and_parts)
    whole, part = get_dataset(str(target))[1].load_annotations()
    assert (whole["level"], part["level"], part["parent_id"]) == (0, 1, whole["id"])
    assert get_dataset(str(target))[1].masks().parent.tolist() == [-1, 0]
    prepare_coco_style(file, [photos], target, describe=parts_only)
    assert [item["level"] for item in get_dataset(str(target))[1].load_annotations()] == [1, 1]


def test_photos_may_be_spread_over_folders(coco_download: Download, tmp_path: Path) -> None:
    file, photos = coco_download
    other = tmp_path / "download" / "train2017"
    other.mkdir()
    (photos / "000000000004.jpg").rename(other / "000000000004.jpg")
    target = tmp_path / "lvis" / "lvis_val.json"
    with pytest.raises(
        DataError, match=r"1 of 2 photos of .*json are missing.*0004\.jpg"
    ) as caught:
        prepare_coco_style(file, [photos], target)
    assert "\n" not in str(caught.value)
    assert not target.parent.exists()
    prepare_coco_style(file, [photos, other], target)
    assert [Path(record.file_name).parent.name for record in get_dataset(str(target))] == [
        "train2017",
        "val2017",
    ]


def test_half_downloads_are_refused_and_leave_nothing(
    coco_download: Download, tmp_path: Path
) -> None:
    file, photos = coco_download
    target = tmp_path / "coco" / "coco_val.json"
    photo = photos / "000000000009.jpg"
    photo.write_bytes(photo.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"0009\.jpg: the photo is damaged .*fetch it again"):
        prepare_coco_style(file, [photos], target)
    write_photo(photo, (16, 12))
    with pytest.raises(DataError, match=r"0009\.jpg: masks of size \(12, 16\), photo of"):
        prepare_coco_style(file, [photos], target)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match="truncated or not JSON"):
        prepare_coco_style(file, [photos], target)
    assert not target.exists()
    with pytest.raises(DataError, match="no such folder of photos"):
        prepare_coco_style(file, [tmp_path / "no"], target)


def test_paco_without_objects_is_named(coco_download: Download, tmp_path: Path) -> None:
    file, photos = coco_download
    content = json.loads(file.read_text())
    del content["annotations"][1]["obj_ann_id"]
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotation 51 has no 'obj_ann_id'"):
        prepare_coco_style(file, [photos], tmp_path / "a.json", describe=objects_and_parts)


def test_links_of_other_photos_are_not_replaced(coco_download: Download, tmp_path: Path) -> None:
    file, photos = coco_download
    target = tmp_path / "coco" / "coco_val.json"
    (target.parent / "images" / "val2017").mkdir(parents=True)
    with pytest.raises(DataError, match=r"images/val2017: is another folder than"):
        prepare_coco_style(file, [photos], target)
    double = tmp_path / "other" / "val2017"
    double.mkdir(parents=True)
    with pytest.raises(DataError, match="have one name"):
        prepare_coco_style(file, [photos, double], target)


def test_counts_are_checked_before_anything_is_written(
    coco_download: Download, tmp_path: Path
) -> None:
    file, photos = coco_download
    target = tmp_path / "paco" / "annotations" / "paco_val.json"
    counts = BENCHMARKS["unsam_paco_val"].counts
    message = (
        r"^paco_val\.json: found 2 photos, expected 2,410, 2,408 are missing; complete the "
        r"download, or take what is there with --partial$"
    )
    with pytest.raises(DataError, match=message):
        prepare_coco_style(file, [photos], target, counts=counts)
    assert not target.parent.exists()
    prepare_coco_style(file, [photos], target, counts=PublishedCounts((2,), masks=2))
    assert get_dataset(str(target))[0].file_name.startswith(str(tmp_path / "paco" / "images"))


def test_a_draw_is_of_the_whole_download_and_needs_its_own_photos_only(
    coco_download: Download, tmp_path: Path
) -> None:
    file, photos = coco_download
    target = tmp_path / "lvis_val.json"
    with pytest.raises(
        DataError, match=r"2017\.json: found 2 photos to draw from, expected 9, 7 are missing"
    ):
        counts = PublishedCounts((1,), drawn_from=9)
        prepare_coco_style(file, [photos], target, counts=counts)
    (drawn,) = draw([4, 9], 1)
    (photos / f"{13 - drawn:012d}.jpg").unlink()
    counts = PublishedCounts((1,), drawn_from=2)
    prepare_coco_style(file, [photos], target, counts=counts)
    assert [record.image_id for record in get_dataset(str(target))] == [drawn]


def test_the_download_is_never_written_over(coco_download: Download) -> None:
    file, photos = coco_download
    before = file.read_bytes()
    with pytest.raises(DataError, match="is the download itself; move it, or give another"):
        prepare_coco_style(file, [photos], file)
    assert file.read_bytes() == before
