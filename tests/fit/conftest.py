"""Small photos, their pseudo masks, and masks by people, for tests of the whole chain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from unsam.cli import main
from unsam.structures import MaskSet

FAST = [
    *("SOLVER.MAX_ITER", "2", "SOLVER.MAX_SECONDS", "0", "SOLVER.BATCH_SIZE", "2"),
    *("INPUT.IMAGE_SIZE", "64", "INPUT.SQUARE_SIZE", "64", "MODEL.CONTOURS.IMAGE_SIZE", "64"),
    *("DATALOADER.NUM_WORKERS", "0", "CHECKPOINT.PERIOD", "1"),
    *("INFERENCE.POINTS_PER_SIDE", "3", "EVALUATION.INTERACTIVE.MAX_OBJECTS", "1"),
    *("EVALUATION.INTERACTIVE.MAX_CLICKS", "2", "SOLVER.PRECISION", "float32"),
    *("INFERENCE.PRECISION", "float32", "DEVICE", "cpu"),
]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photos: colour, grey, with transparency, of 3x2 pixels; and a file that is none."""
    folder = tmp_path_factory.mktemp("my photos")
    Image.fromarray(data.astronaut()[::4, ::4]).save(folder / "0.png")
    Image.fromarray(data.camera()[::4, ::4]).save(folder / "1.tif")
    coffee = Image.fromarray(data.coffee()[::4, ::4])
    coffee.putalpha(200)
    coffee.save(folder / "2.png")
    Image.fromarray(data.chelsea()[:2, :3]).save(folder / "tiny.png")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8 no photo")
    return folder


@pytest.fixture(scope="session")
def truth(photos: Path) -> Path:
    """A COCO-style JSON of two photos, with a rectangle each."""
    images, annotations = [], []
    for number, name in enumerate(("0.png", "2.png"), start=1):
        width, height = Image.open(photos / name).size
        mask = np.zeros((1, height, width), bool)
        mask[:, height // 4 : height // 2, width // 4 : width // 2] = True
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations += MaskSet.from_masks(mask).to_coco(number, first_id=number)
    path = photos.with_name("truth.json")
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return path


@pytest.fixture(scope="session")
def masks(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pseudo masks of `photos`."""
    folder = tmp_path_factory.mktemp("masks")
    assert main(["pseudo-masks", "--input", str(photos), "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run ``unsam fit`` with a fast recipe; return the exit code and what the error line says."""

    def call(*words: object) -> tuple[int, str]:
        code = main(["fit", *map(str, words), *FAST])
        lines = capsys.readouterr().err.splitlines()
        return code, next((line for line in lines if line.startswith("unsam: error")), "")

    return call
