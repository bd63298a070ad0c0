"""A model's masks of a folder of photos are a dataset like pseudo masks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.modeling.conftest import draw_blobs, tiny_cfg
from unsam.annotations.records import PhotoFile
from unsam.checkpoint.checkpointer import save_weights
from unsam.cli import main
from unsam.config import config_text
from unsam.data import get_dataset
from unsam.errors import DataError
from unsam.inference import Segmenter
from unsam.inference.folder import segment_photos
from unsam.structures import read_photo

NAMES = ("a.png", "deep/b.png")


@pytest.fixture
def segmenter() -> Segmenter:
    torch.manual_seed(0)
    built = Segmenter.from_config(tiny_cfg())
    draw_blobs(built.model)
    return built


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, size in zip(NAMES, ((40, 60, 3), (50, 30)), strict=True):
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(folder / name)
    (folder / "bad.jpg").write_bytes(b"no photo")
    return folder


def listed(folder: Path) -> dict[str, PhotoFile]:
    return {name: PhotoFile(folder / name) for name in ("bad.jpg", *NAMES)}


def times(out: Path) -> list[int]:
    return [(out / f"{name}.json").stat().st_mtime_ns for name in NAMES]


def test_the_folder_is_a_dataset_of_what_the_model_answers(
    segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    manifest = segment_photos(listed(photos), photos, out, segmenter, granularity=[0.2, 0.7])
    assert manifest["failures"].keys() == {"bad.jpg"}
    assert manifest["counts"]["done"] == 2
    assert manifest["supervised"] is False
    records = get_dataset(str(out))
    assert [Path(record.file_name).name for record in records] == ["a.png", "b.png"]
    for record in records:
        expected = segmenter.generate(read_photo(record.file_name), [0.2, 0.7])
        assert len(expected)
        assert record.masks() == expected


def test_a_rerun_does_only_what_is_missing(
    segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = segment_photos(listed(photos), photos, out, segmenter)
    before = times(out)
    assert segment_photos(listed(photos), photos, out, segmenter) == first
    assert times(out) == before
    # A file that was cut off, as by another program, is made again; the other one stays.
    (out / "a.png.json").write_text((out / "a.png.json").read_text()[:50])
    assert segment_photos(listed(photos), photos, out, segmenter) == first
    assert times(out)[0] != before[0]
    assert times(out)[1] == before[1]
    # Another photo under the old name, other weights, other granularities: made anew.
    before = times(out)
    shutil.copy(photos / NAMES[0], photos / NAMES[1])
    segment_photos(listed(photos), photos, out, segmenter)
    assert [old != new for old, new in zip(before, times(out), strict=True)] == [False, True]
    before = times(out)
    segment_photos(listed(photos), photos, out, segmenter, granularity=[0.5])
    assert all(old != new for old, new in zip(before, times(out), strict=True))
    before = times(out)
    with torch.no_grad():
        next(segmenter.model.parameters()).add_(1.0)
    segment_photos(listed(photos), photos, out, segmenter, granularity=[0.5])
    assert all(old != new for old, new in zip(before, times(out), strict=True))


def test_nothing_of_others_is_written_over(
    segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png.json").write_text(json.dumps({"shapes": []}))
    manifest = segment_photos(listed(photos), photos, out, segmenter)
    assert "another program" in manifest["failures"]["a.png"]
    assert json.loads((out / "a.png.json").read_text()) == {"shapes": []}
    (out / "manifest.json").write_text(json.dumps({"config": {"PSEUDO_MASKS": {}}, "images": {}}))
    with pytest.raises(DataError, match="what another command"):
        segment_photos(listed(photos), photos, out, segmenter)


def test_no_photo_at_all_and_wrong_granularities(
    segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    bad = {"bad.jpg": PhotoFile(photos / "bad.jpg")}
    with pytest.raises(DataError, match=r"none of 1 photos could be used \(bad.jpg: "):
        segment_photos(bad, photos, tmp_path / "out", segmenter)
    with pytest.raises(ValueError, match=r"in \[0.1, 1\]"):
        segment_photos(bad, photos, tmp_path / "out", segmenter, granularity=[2.0])
    with pytest.raises(ValueError, match="config of this model"):
        segment_photos(bad, photos, tmp_path / "out", Segmenter(segmenter.model, "cpu"))


def test_self_training_goes_round(
    segmenter: Segmenter, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Segment, merge, train: the commands of configs/unsam/whole_image_R50_self_training.yaml."""
    weights = tmp_path / "model.safetensors"
    save_weights(segmenter.model, weights, config_text(segmenter.cfg))
    words = ["segment", "--images", photos, "--output", tmp_path / "pred", "--weights", weights]
    assert main([*map(str, words), "INFERENCE.QUALITY_THRESHOLD", "0.0"]) == 0
    output = capsys.readouterr()
    assert "2 photos" in output.out
    assert "bad.jpg" in output.err
    assert main([*map(str, words), "--strict", "INFERENCE.QUALITY_THRESHOLD", "0.0"]) == 1
    pseudo = tmp_path / "pseudo"
    segment_photos(listed(photos), photos, pseudo, segmenter, granularity=[0.3])
    words = ["merge-masks", "self-training", "--pseudo", pseudo, "--min-score", "0.0"]
    merged = ["--predictions", tmp_path / "pred", "--output", tmp_path / "round2"]
    assert main([*map(str, words), *map(str, merged)]) == 0
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(config_text(segmenter.cfg))
    words = ["train", "--config-file", recipe, "DATASETS.TRAIN", tmp_path / "round2"]
    words += ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path / "run", "DEVICE", "cpu"]
    words += ["SOLVER.MAX_ITER", "1", "SOLVER.BATCH_SIZE", "1", "DATALOADER.NUM_WORKERS", "0"]
    assert main([*map(str, words)]) == 0
    assert (tmp_path / "run" / "model.safetensors").is_file()
