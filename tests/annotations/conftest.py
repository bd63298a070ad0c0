"""Small real data sets and readers that the tests of annotation files share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unsam.annotations.formats import open_source
from unsam.annotations.records import Entry, PhotoRecord
from unsam.structures import MaskSet


def records_of(path: Path, image_root: str = "") -> dict[str, PhotoRecord]:
    """All records of some files by photo name; any failure is an error."""
    source = open_source(path, image_root)
    entries = list(source.entries())
    assert all(isinstance(entry, Entry) for entry in entries), entries
    return {entry.name: source.read(entry) for entry in entries if isinstance(entry, Entry)}


def nested_masks(seed: int, size: tuple[int, int] = (24, 36)) -> MaskSet:
    """Four quarters under the whole, with odd fields."""
    rng = np.random.default_rng(seed)
    height, width = size
    dense = np.zeros((5, height, width), bool)
    dense[0] = True
    row, column = rng.integers(4, height - 4), rng.integers(4, width - 4)
    dense[1, :row, :column] = dense[2, :row, column:] = True
    dense[3, row:, :column] = dense[4, row:, column:] = True
    return MaskSet.from_masks(
        dense,
        score=rng.random(5).astype(np.float32),
        granularity=rng.uniform(0.1, 1, 5).astype(np.float32),
        parent=[-1, 0, 0, 0, 0],
        source=["divide", "conquer", "human", "model", "conquer"],
    )


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write photos and a folder of JSONs with a manifest; return the folder of JSONs."""

    def make(folder: str, masks: dict[str, MaskSet]) -> Path:
        photos, out = tmp_path / f"{folder}_photos", tmp_path / folder
        images: dict[str, Any] = {}
        for name, item in masks.items():
            for parent in (photos / name, out / name):
                parent.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(len(name))
            pixels = rng.integers(0, 255, (*item.size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(photos / name)
            record = item.to_sa1b(name, image_id=len(images) + 1)
            (out / f"{name}.json").write_text(json.dumps(record))
            images[name] = {"sha256": f"hash of {name}", "masks": len(item)}
        manifest = {"version": 1, "image_root": str(photos), "images": images, "failures": {}}
        (out / "manifest.json").write_text(json.dumps(manifest))
        return out

    return make


@pytest.fixture
def some_of(data_root: Path, tmp_path: Path) -> Callable[..., Path]:
    """A COCO JSON of the first few photos of a real set, beside a link to its photos."""

    def make(folder: str, file: str, count: int) -> Path:
        content = json.loads((data_root / folder / file).read_bytes())
        content["images"] = content["images"][:count]
        kept = {image["id"] for image in content["images"]}
        rows = [item for item in content["annotations"] if item["image_id"] in kept]
        target = tmp_path / f"some_{folder}"
        target.mkdir()
        (target / "images").symlink_to(data_root / folder / "images")
        (target / file).write_text(json.dumps({**content, "annotations": rows}))
        return target / file

    return make
