"""Stored masks are evaluated as if a segmenter had just made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unsam.config import load_config
from unsam.errors import ConfigError, DataError
from unsam.evaluation import evaluate
from unsam.structures import MaskSet


@pytest.fixture
def truth(tmp_path: Path) -> str:
    """A COCO-style file of one photo with four masks."""
    labels = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 20, 0), 30, 1)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}],
        "annotations": MaskSet.from_label_map(labels).to_coco(1),
        "categories": [{"id": 1, "name": "segment"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(content))
    return str(tmp_path / "truth.json")


def recipe(truth: str, stored: str):
    words = ["DATASETS.TEST", truth, "EVALUATION.SEGMENTER", "StoredMasks"]
    folder = ["DATASETS.IMAGE_ROOT", str(Path(truth).parent)]
    return load_config(None, [*words, *folder, "EVALUATION.STORED_MASKS", stored])


def test_the_truth_as_prediction_is_perfect(truth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (metrics,) = evaluate(recipe(truth, truth)).values()
    assert metrics["AverageRecallEvaluator"]["AR@1000"] == 1.0


def test_photos_without_stored_masks_are_one_line(truth: str, tmp_path: Path) -> None:
    content = json.loads(Path(truth).read_text())
    content["images"][0]["file_name"] = "b.png"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "b.png")
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"no masks for .*a\.png; make them"):
        evaluate(recipe(truth, str(other)))
    with pytest.raises(ConfigError, match="STORED_MASKS is empty"):
        evaluate(recipe(truth, ""))
