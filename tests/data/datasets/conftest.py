"""A small set of photos with masks, written in every form that a training set may have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unsam.structures import MaskSet

NAMES = ("sa_1.jpg", "sa_2.jpg", "sa_3.jpg")


def photo_of(number: int) -> np.ndarray:
    height, width = 20 + number, 30
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 9, columns * 7, np.full_like(rows, 60 * number)], -1).astype(np.uint8)


def masks_of(number: int) -> MaskSet:
    labels = np.random.default_rng(number).integers(0, 3, photo_of(number).shape[:2])
    fields = {"granularity": [1.0, 0.5, 0.25], "parent": [-1, 0, 0]}
    return MaskSet.from_label_map(labels, **fields, source="conquer")


@pytest.fixture
def sa1b_folder(tmp_path: Path) -> Path:
    """``sa_<id>.jpg`` beside ``sa_<id>.json``, as SA-1B's tars unpack."""
    folder = tmp_path / "sa1b"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        Image.fromarray(photo_of(number)).save(folder / name, quality=100, subsampling=0)
        text = json.dumps(masks_of(number).to_sa1b(name, image_id=number + 1))
        (folder / name).with_suffix(".json").write_text(text)
    return folder
