"""Stored masks are evaluated as if a segmenter had just made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unsam.config import load_config
from unsam.data import ImageRecord
from unsam.errors import ConfigError, DataError
from unsam.evaluation import StoredMasks, evaluate
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


SIZE = (40, 60)
# Rectangles (top, left, bottom, right), each with its granularity and score: the whole, its left
# half twice, a square in it, and another square on the right.
SHAPES = (
    ((0, 0, 40, 60), 1.0, 0.3),
    ((0, 0, 40, 30), 0.5, 0.6),
    ((0, 0, 39, 30), 0.5, 0.9),
    ((10, 10, 20, 20), 0.1, 0.5),
    ((10, 40, 20, 50), 0.1, 0.5),
)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> StoredMasks:
    dense = np.zeros((len(SHAPES), *SIZE), bool)
    for mask, ((top, left, bottom, right), _, _) in zip(dense, SHAPES, strict=True):
        mask[top:bottom, left:right] = True
    _, granularity, score = zip(*SHAPES, strict=True)
    masks = MaskSet.from_masks(dense, granularity=granularity, score=score)
    record = ImageRecord(1, "photo.png", *SIZE, annotations=masks.to_coco(1))
    monkeypatch.setattr("unsam.evaluation.stored_masks.get_dataset", lambda name: [record])
    built = StoredMasks("masks")
    built.set_photo(record)
    built.set_image(np.zeros((*SIZE, 3), np.uint8))
    return built


@pytest.mark.parametrize(
    ("clicks", "granularity", "expected"),
    [
        ([(15, 15, 1)], 0.1, 3),
        ([(15, 15, 1)], 1.0, 0),
        # Of two equally near the one with the higher score.
        ([(15, 15, 1)], 0.5, 2),
        # A negative click rules masks out, whatever granularity is wanted.
        ([(15, 15, 1), (50, 35, 0)], 1.0, 2),
        ([(15, 15, 1), (5, 5, 0)], 1.0, 3),
        # Only the whole has both positive clicks.
        ([(15, 15, 1), (45, 15, 1)], 0.1, 0),
        ([(15, 15, 1), (45, 15, 1), (30, 30, 0)], 0.1, 0),
        # Padding has no effect.
        ([(15, 15, 1), (45, 15, -1)], 0.1, 3),
    ],
)
def test_a_click_finds_the_mask_that_fits_best(
    teacher: StoredMasks, clicks: list[tuple[int, int, int]], granularity: float, expected: int
) -> None:
    values = np.array([clicks], np.float32)
    masks, quality, _ = teacher.predict_batch(
        values[..., :2], values[..., 2], None, np.array([granularity])
    )
    (top, left, bottom, right), _, score = SHAPES[expected]
    assert masks[0, top:bottom, left:right].all()
    assert masks.sum() == (bottom - top) * (right - left)
    assert quality == np.float32(score)


def test_prompts_of_a_batch_are_independent(teacher: StoredMasks) -> None:
    generator = np.random.default_rng(0)
    points = generator.uniform(0, 60, (20, 3, 2))
    labels = generator.integers(-1, 2, (20, 3))
    wanted = generator.uniform(0.1, 1, 20)
    together = teacher.predict_batch(points, labels, None, wanted)
    for row in range(20):
        one = slice(row, row + 1)
        alone = teacher.predict_batch(points[one], labels[one], None, wanted[one])
        assert (alone[0] == together[0][one]).all()
        assert alone[1] == together[1][one]


def test_no_mask_under_the_clicks_is_an_empty_answer(truth: str, tmp_path: Path) -> None:
    content = json.loads(Path(truth).read_text())
    del content["annotations"][1:]
    few = tmp_path / "few.json"
    few.write_text(json.dumps(content))
    teacher = StoredMasks(str(few))
    point, label = np.array([[[50.0, 30.0]]]), np.array([[1]])
    with pytest.raises(ValueError, match="no photo is set"):
        teacher.predict_batch(point, label, None, 0.5)
    (record,) = teacher._by_photo.values()
    teacher.set_photo(record)
    with pytest.raises(ValueError, match="a photo of"):
        teacher.set_image(np.zeros((3, 3, 3), np.uint8))
    masks, quality, logits = teacher.predict_batch(point, label, None, 0.5)
    assert masks.shape == (1, 40, 60)
    assert not masks.any()
    assert quality == 0
    assert logits.shape == (1, 1, 1)
    assert teacher.predict_batch(point * 0, label, None, 0.5)[0].sum() == 600


def test_clicks_on_the_truth_find_it_at_once(truth: str) -> None:
    cfg = recipe(truth, truth)
    cfg.defrost()
    cfg.EVALUATION.EVALUATORS = ("InteractiveEvaluator",)
    (metrics,) = evaluate(cfg).values()
    assert metrics["InteractiveEvaluator"]["iou1@g0.5"] == 1.0
    assert metrics["InteractiveEvaluator"]["noc90@g0.5"] == 1.0
    assert metrics["InteractiveEvaluator"]["objects"] == 4.0
