"""The whole chain on three small photos: each stage leaves its files, a rerun repeats nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from unsam.cli import main
from unsam.config import load_config
from unsam.data import get_dataset
from unsam.errors import DataError
from unsam.quickstart import SCIKIT_IMAGE_PHOTOS, _collect_scikit_image_photos, run_quickstart

FAST = [
    *("SOLVER.MAX_ITER", "2", "SOLVER.MAX_SECONDS", "0", "SOLVER.BATCH_SIZE", "2"),
    *("INPUT.IMAGE_SIZE", "64", "INPUT.SQUARE_SIZE", "64", "MODEL.CONTOURS.IMAGE_SIZE", "64"),
    *("DATALOADER.NUM_WORKERS", "0", "SOLVER.LOG_PERIOD", "1"),
    *("INFERENCE.POINTS_PER_SIDE", "3", "EVALUATION.INTERACTIVE.MAX_OBJECTS", "1"),
    *("EVALUATION.INTERACTIVE.MAX_CLICKS", "2", "SOLVER.PRECISION", "float32"),
    *("INFERENCE.PRECISION", "float32"),
]


@pytest.mark.slow
def test_photos_become_a_report_and_a_rerun_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "my photos"
    photos.mkdir()
    for index, photo in enumerate((data.astronaut(), data.coffee(), data.chelsea())):
        Image.fromarray(photo[::4, ::4]).save(photos / f"{index}.png")
    out = tmp_path / "out"
    words = ["quickstart", "--images", str(photos), "--output", str(out), *FAST]
    assert main(words) == 0
    assert str(out / "report.html") in capsys.readouterr().out

    sides = [get_dataset(str(out / side)) for side in ("train", "held_out")]
    assert [len(side) for side in sides] == [2, 1]
    assert not {r.file_name for r in sides[0]} & {r.file_name for r in sides[1]}
    results = json.loads((out / "results.json").read_text())["results"]
    assert set(results) == {"trained model", "untrained model", "Otsu", "Slic", "Felzenszwalb"}
    page = (out / "report.html").read_text()
    for part in ("granularity 0.5", "Losses", "AR@1000", "untrained model"):
        assert part in page

    before = {path: path.stat().st_mtime_ns for path in (out / "pseudo_masks").rglob("*.json")}
    steps = (out / "run" / "metrics.jsonl").read_text()
    assert main(words) == 0
    masks = {path: before[path] for path in before if path.name != "manifest.json"}
    assert all(path.stat().st_mtime_ns == time for path, time in masks.items())
    assert (out / "run" / "metrics.jsonl").read_text() == steps


def test_one_photo_is_too_few(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photos" / "one.png")
    cfg = load_config("quickstart/tiny.yaml", FAST)
    with pytest.raises(DataError, match="at least 2"):
        run_quickstart(cfg, tmp_path / "out", str(tmp_path / "photos"))


def test_scikit_image_carries_photos_enough(tmp_path: Path) -> None:
    folder = _collect_scikit_image_photos(tmp_path / "photos")
    found = {path.name for path in folder.iterdir()}
    assert found <= set(SCIKIT_IMAGE_PHOTOS)
    assert len(found) >= 8
