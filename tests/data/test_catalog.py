from __future__ import annotations

import json
from pathlib import Path

import pytest

from unsam.data import ImageRecord, dataset_names, get_dataset, register_dataset
from unsam.data import catalog as catalog_module
from unsam.errors import DataError

BUILTIN = [
    "ade20k_val",
    "bsds500_train_all",
    "bsds500_train_distinct",
    "bsds500_val_all",
    "bsds500_val_distinct",
    "camvid_val",
    "car_parts_val",
    "clothing_parts_val",
    "coco_train",
    "coco_val",
    "davis_val",
    "entity_val",
    "fashionpedia_val",
    "grabcut_val",
    "lvis_val",
    "nuclei_val",
]


@pytest.fixture
def clean_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "_REGISTERED", {})


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_datasets_load_and_decode(name: str, data_root: Path) -> None:
    records = get_dataset(name)
    assert len({record.image_id for record in records}) == len(records)
    assert all(Path(record.file_name).is_absolute() for record in records)
    first = records[0]
    masks = first.masks()
    assert masks.size == first.size
    assert len(masks) > 0
    assert (masks.areas > 0).all()


def test_names_are_listed() -> None:
    assert set(BUILTIN) <= set(dataset_names())


def test_unknown_name_gives_nearest_in_one_line() -> None:
    with pytest.raises(DataError, match=r"'coco_vall'; did you mean 'coco_val'\?") as caught:
        get_dataset("coco_vall")
    assert "\n" not in str(caught.value)


def test_missing_path_is_not_taken_for_a_name() -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        get_dataset("nowhere/truth.json")


def test_a_registered_dataset_is_found(clean_catalog: None) -> None:
    record = ImageRecord(1, "/photos/a.jpg", 4, 6)
    register_dataset("mine", lambda: [record])
    assert get_dataset("mine") == [record]
    with pytest.raises(DataError, match="registered already"):
        register_dataset("mine", list)
    with pytest.raises(DataError, match="registered already"):
        register_dataset("coco_val", list)


def test_a_dataset_without_photos_is_an_error(clean_catalog: None) -> None:
    register_dataset("nothing", list)
    with pytest.raises(DataError, match="'nothing' has no photo"):
        get_dataset("nothing")


def test_a_folder_of_photos_is_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no masks in it \(manifest\.json, .*pseudo-masks --input"):
        get_dataset(str(tmp_path))


def test_a_json_path_is_a_dataset(data_root: Path) -> None:
    by_path = get_dataset(str(data_root / "coco" / "coco_val.json"))
    assert by_path == get_dataset("coco_val")


def test_photos_that_are_not_there_are_counted_in_one_line(data_root: Path) -> None:
    with pytest.raises(
        DataError, match=r"100 of 100 photos are missing, the first is .*\.jpg"
    ) as e:
        get_dataset(str(data_root / "lvis" / "lvis_val_100.json"))
    assert "\n" not in str(e.value)


def test_the_data_folder_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "nuclei"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(b"")
    image = {"id": 7, "file_name": "a.png", "height": 2, "width": 3}
    (folder / "nuclei_val.json").write_text(json.dumps({"images": [image], "annotations": []}))
    monkeypatch.setenv("UNSAM_DATA", str(tmp_path))
    assert [record.image_id for record in get_dataset("nuclei_val")] == [7]
    monkeypatch.setenv("UNSAM_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="UNSAM_DATA"):
        get_dataset("nuclei_val")
