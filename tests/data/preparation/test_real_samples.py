"""The converters on masks that people drew, given in the layout of each download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unsam.data import get_dataset
from unsam.data.preparation.ade20k import prepare_ade20k
from unsam.data.preparation.coco_style import objects_and_parts, parts_only, prepare_coco_style


def test_lvis_with_names_from_its_addresses(data_root: Path, tmp_path: Path) -> None:
    """The original annotations of four photos, cut to the fields that v1 has."""
    content = json.loads((data_root / "lvis" / "lvis_val_100.json").read_text())
    expected = {int(Path(record.file_name).stem): record for record in get_dataset("lvis_val")}
    kept = ("id", "coco_url", "height", "width")
    content["images"] = [
        {key: image[key] for key in kept} for image in content["images"] if image["id"] in expected
    ]
    content["annotations"] = [
        item for item in content["annotations"] if item["image_id"] in expected
    ]
    file = tmp_path / "lvis_v1_val.json"
    file.write_text(json.dumps(content))
    target = tmp_path / "lvis" / "annotations" / "lvis_v1_val.json"
    prepare_coco_style(file, [data_root / "lvis" / "images"], target)
    made = get_dataset(str(target))
    assert {record.image_id for record in made} == set(expected)
    for record in made:
        other = expected[record.image_id]
        np.testing.assert_array_equal(record.masks().masks(), other.masks().masks())


def test_paco_and_partimagenet_on_real_parts(data_root: Path, tmp_path: Path) -> None:
    clothing, cars = data_root / "clothing_parts", data_root / "car_parts"
    target = tmp_path / "paco" / "paco_val.json"
    content = json.loads((clothing / "clothing_parts_val.json").read_text())
    chosen = {image["id"] for image in content["images"][:6]}
    content["images"] = content["images"][:6]
    # In PACO an object names itself.
    content["annotations"] = [
        {"obj_ann_id": row["id"], **row}
        for row in content["annotations"]
        if row["image_id"] in chosen
    ]
    file = tmp_path / "paco_lvis_v1_val.json"
    file.write_text(json.dumps(content))
    prepare_coco_style(file, [clothing / "images"], target, describe=objects_and_parts)
    for record in get_dataset(str(target)):
        masks, rows = record.masks(), record.load_annotations()
        wholes = [index for index, row in enumerate(rows) if row["level"] == 0]
        parts = [index for index, row in enumerate(rows) if row["level"] == 1]
        assert len(wholes) == 1
        assert len(parts) == len(rows) - 1
        assert masks.parent[parts].tolist() == wholes * len(parts)
        # In this set an object is the union of its parts.
        assert (masks.filter(parts).containment(masks.filter(wholes)) == 1).all()
    target = tmp_path / "partimagenet" / "partimagenet_val.json"
    prepare_coco_style(cars / "car_parts_val.json", [cars / "images"], target, describe=parts_only)
    made, expected = get_dataset(str(target)), get_dataset("car_parts_val")
    assert len(made) == len(expected)
    for one, other in zip(made[:5], expected, strict=False):
        assert one.masks().rles == other.masks().rles
        assert {row["level"] for row in one.load_annotations()} == {1}


def test_ade20k_objects_parts_and_their_parents(data_root: Path, tmp_path: Path) -> None:
    """Real maps of all levels, painted back as the release encodes them."""
    folder = tmp_path / "ADE" / "validation"
    folder.mkdir(parents=True)
    expected = get_dataset("ade20k_val")[:2]
    orders = []
    for record in expected:
        photo, rows = Path(record.file_name), record.load_annotations()
        (folder / photo.name).symlink_to(photo)
        masks = record.decode(rows)
        ordered: list[dict[str, Any]] = []
        for level in sorted({row["level"] for row in rows}):
            pixels = np.zeros((*record.size, 3), np.uint8)
            for index, row in enumerate(rows):
                if row["level"] == level:
                    ordered.append(row)
                    # Class 257, so that both channels count, and the instance.
                    pixels[masks.mask(index)] = (10, 1, index)
            ending = "_seg" if level == 0 else f"_parts_{level}"
            Image.fromarray(pixels).save(folder / f"{photo.stem}{ending}.png")
        orders.append(ordered)
    target = tmp_path / "ade" / "annotations" / "ade_val.json"
    prepare_ade20k(folder, target)
    for record, ordered in zip(get_dataset(str(target)), orders, strict=True):
        rows = record.load_annotations()
        assert [row["level"] for row in rows] == [row["level"] for row in ordered]
        kept = [row["segmentation"] for row in rows]
        assert kept == [row["segmentation"] for row in ordered]
        place = {row["id"]: index for index, row in enumerate(ordered)}
        parents = [place.get(row.get("parent_id", -1), -1) for row in ordered]
        assert record.masks().parent.tolist() == parents
