from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.preparation.conftest import square, write_photo
from unsam.data import dataset_names, get_dataset
from unsam.data.datasets import BENCHMARKS
from unsam.errors import DataError

# As published: reference names, roots and files (UnSAM's registration of its datasets).
PUBLISHED = {
    "unsam_coco_val": ("coco/val2017", "coco/annotations/instances_val2017.json"),
    "unsam_lvis_val": ("lvis/images", "lvis/annotations/lvis_v1_val.json"),
    "unsam_ade20k_val": ("ade/images", "ade/annotations/ade_val.json"),
    "unsam_entity_val": ("entity/images", "entity/annotations/entityseg_val.json"),
    "unsam_sa1b_val": ("sa1b/images", "sa1b/annotations/sa1b_val.json"),
    "unsam_partimagenet_val": (
        "partimagenet/images",
        "partimagenet/annotations/partimagenet_val.json",
    ),
    "unsam_paco_val": ("paco/images", "paco/annotations/paco_val.json"),
}


def write_set(root: Path, name: str, *, rows: list[dict[str, Any]] | None = None) -> Path:
    """Two photos with large ids, the second in a folder; return the JSON."""
    benchmark = BENCHMARKS[name]
    folder = root / benchmark.folder
    names = {900001: "first.jpg", 17: "inner/second.jpg"}
    for file in names.values():
        write_photo(folder / benchmark.photos / file)
    images = [
        {"id": number, "file_name": file, "height": 12, "width": 16}
        for number, file in names.items()
    ]
    plain = {"id": 1, "image_id": 17, "segmentation": square(2, 2, 4)}
    path = folder / benchmark.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": rows or [plain]}))
    return path


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_folders_are_read_and_ids_come_from_the_json(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    path = write_set(tmp_path, name)
    photos, file = (tmp_path / place for place in PUBLISHED[name])
    assert path == file
    # What is in the folder of the photos besides the set's own changes nothing.
    write_photo(photos / "more" / "other_name.jpg")
    (photos / "notes.txt").write_text("")
    records = get_dataset(name)
    assert [record.image_id for record in records] == [17, 900001]
    assert records[0].file_name == str(photos / "inner" / "second.jpg")
    assert [len(record.masks()) for record in records] == [1, 0]


def test_all_names_are_known_and_need_no_file_to_be_listed() -> None:
    assert set(PUBLISHED) <= set(BENCHMARKS) <= set(dataset_names())


def test_counts_are_those_of_the_papers() -> None:
    counts = {name: benchmark.counts for name, benchmark in BENCHMARKS.items()}
    whole = ("coco", "lvis", "ade20k", "entity", "sa1b", "partimagenet", "paco")
    published = (5000, 5000, 2000, 1314, 1000, 2956, 2410)
    for name, photos in zip(whole, published, strict=True):
        counts[f"unsam_{name}_val"].require_photos(photos, name)
    clicks = {"sbd": (2857, 6671), "grabcut": (50, 50), "berkeley": (96, 100), "davis": (345, 345)}
    for name, (photos, masks) in clicks.items():
        counts[f"unsam_{name}_val"].require_photos(photos, name)
        counts[f"unsam_{name}_val"].require_masks(masks, name)


def test_the_default_is_that_of_detectron2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.chdir(tmp_path)
    expected = tmp_path / "datasets" / "ade" / "annotations" / "ade_val.json"
    with pytest.raises(DataError) as caught:
        get_dataset("unsam_ade20k_val")
    text = str(caught.value)
    assert str(expected) in text
    assert "set DETECTRON2_DATASETS to the folder that holds ade/" in text
    assert "\n" not in text
    write_set(tmp_path / "datasets", "unsam_ade20k_val")
    assert len(get_dataset("unsam_ade20k_val")) == 2


def test_missing_photos_and_another_folder_of_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    write_set(tmp_path, "unsam_paco_val")
    (tmp_path / "paco" / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"paco_val\.json: 2 of 2 photos are missing.*first"):
        get_dataset("unsam_paco_val")
    assert len(get_dataset("unsam_paco_val", str(tmp_path / "elsewhere"))) == 2


def test_a_set_of_another_size_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    write_set(tmp_path, "unsam_coco_val")
    get_dataset("unsam_coco_val")
    (record,) = caplog.records
    assert "has 2 photos, the published benchmark 5,000" in record.getMessage()


def test_click_benchmarks_have_their_targets_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    base = {"image_id": 17, "segmentation": square(2, 2, 4)}
    marks = [
        {"level": 0, "interactive": 1},
        {"level": 1, "interactive": 0},
        {"level": 1, "interactive": 0},
    ]
    rows = [{**base, **mark, "id": number} for number, mark in enumerate(marks, start=1)]
    for name, count in (
        ("unsam_pascalpart_val", 2),
        ("unsam_sa1b_interactive_val", 1),
        ("unsam_sa1b_val", 3),
    ):
        write_set(tmp_path, name, rows=rows)
        assert len(get_dataset(name)[0].masks()) == count
    write_set(tmp_path, "unsam_sa1b_interactive_val")
    with pytest.raises(DataError, match="annotation 1 of SA-1B has no 'interactive'; prepare"):
        get_dataset("unsam_sa1b_interactive_val")


def test_a_prepared_json_is_found_by_its_path_too(tmp_path: Path) -> None:
    path = write_set(tmp_path, "unsam_ade20k_val")
    assert [record.image_id for record in get_dataset(str(path))] == [17, 900001]
