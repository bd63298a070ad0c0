from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from tests.evaluation.synthetic import made_up_dataset, measured_in_shares
from unsam.config import load_config
from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation import PointEvaluator, build_evaluator

VALUES = (0.1, 0.4, 1.0)
HALF_SIDES = {0.1: 4, 0.4: 11, 1.0: 25}
RECORDS, _ = made_up_dataset(4)


def sample_of(record: ImageRecord) -> dict[str, Any]:
    return {"image_id": record.image_id, "image": np.zeros((*record.size, 3), np.uint8)}


def square(size: tuple[int, int], x: int, y: int, half: int) -> np.ndarray:
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (abs(rows - y) <= half) & (abs(columns - x) <= half)


def quality_of(x: int, y: int, half: int) -> float:
    return ((7 * x + 5 * y + 3 * half) % 11) / 10


class Squares:
    """Answers a click with a square around it, its size by granularity."""

    takes_prompts = True

    def __init__(self) -> None:
        self.images_set = 0
        self.batches: list[int] = []

    def set_image(self, image: np.ndarray) -> None:
        self.images_set += 1
        self.size = image.shape[:2]

    def predict_batch(self, points: Any, labels: Any, mask_logits: Any, granularity: Any) -> Any:
        assert mask_logits is None
        assert (labels == 1).all()
        assert points.shape[1:] == (1, 2)
        self.batches.append(len(points))
        answers = [
            (int(x), int(y), HALF_SIDES[round(float(value), 3)])
            for (x, y), value in zip(points[:, 0], granularity, strict=True)
        ]
        masks = np.stack([square(self.size, *answer) for answer in answers])
        return masks, np.array([quality_of(*answer) for answer in answers]), np.zeros(len(masks))


class ThreeSquares(Squares):
    """Gives all squares at once and knows no granularity, as SAM does."""

    model = SimpleNamespace(is_granular=False)

    def predict_batch(self, points: Any, labels: Any, mask_logits: Any, granularity: Any) -> Any:
        raise AssertionError("it has one answer per prompt")

    def predict(self, points: Any) -> Any:
        ((x, y),) = points
        answers = [(x, y, half) for half in HALF_SIDES.values()]
        masks = np.stack([square(self.size, *answer) for answer in answers])
        return SimpleNamespace(
            masks=masks, quality=np.array([quality_of(*answer) for answer in answers])
        )


def expected() -> tuple[list[float], list[float]]:
    """Every segment but crowds, straight from the definition."""
    most_confident, best = [], []
    for record in RECORDS:
        for target in record.masks().masks():
            depth = distance_transform_edt(np.pad(target, 1))[1:-1, 1:-1]
            y, x = np.argwhere(depth == depth.max())[0]
            ious, quality = [], []
            for half in HALF_SIDES.values():
                answer = square(record.size, int(x), int(y), half)
                ious.append((answer & target).sum() / (answer | target).sum())
                quality.append(quality_of(int(x), int(y), half))
            most_confident.append(ious[quality.index(max(quality))])
            best.append(max(ious))
    return most_confident, best


@pytest.mark.parametrize("segmenter", [Squares(), ThreeSquares()], ids=["granular", "multimask"])
@pytest.mark.parametrize("batch_size", [2, 7, 64])
def test_equal_to_the_definition(segmenter: Squares, batch_size: int) -> None:
    evaluator = PointEvaluator(RECORDS, granularities=VALUES, batch_size=batch_size)
    for record in RECORDS:
        evaluator.process([sample_of(record)], segmenter)
    most_confident, best = expected()
    metrics = evaluator.evaluate()
    assert metrics["point_max"] == pytest.approx(np.mean(most_confident), abs=1e-12)
    assert metrics["point_oracle"] == pytest.approx(np.mean(best), abs=1e-12)
    assert metrics["point_max"] < metrics["point_oracle"]
    assert (metrics["segments"], metrics["photos"]) == (len(best), 4)
    curves = evaluator.curves(evaluator.results)
    for name, ious in (("point_max", most_confident), ("point_oracle", best)):
        shares = [np.mean(np.array(ious) >= level) for level in curves[name]["x"]]
        assert curves[name]["y"] == pytest.approx(shares)


def test_any_number_of_ranks_gives_the_same_and_each_photo_is_encoded_once() -> None:
    segmenters: list[Squares] = []

    def segmenter(sample: dict[str, Any]) -> Squares:
        segmenters.append(Squares())
        return segmenters[-1]

    def make() -> PointEvaluator:
        return PointEvaluator(RECORDS, granularities=VALUES, batch_size=6)

    samples = [sample_of(record) for record in RECORDS]
    one, two, three = (measured_in_shares(make, samples, segmenter, n) for n in (1, 2, 3))
    assert one == two == three
    assert [item.images_set for item in segmenters] == [1] * 12
    assert max(max(item.batches) for item in segmenters) == 6


def test_photos_without_segments_are_not_even_encoded() -> None:
    record = ImageRecord(1, "/a.jpg", 20, 30, [])
    evaluator = PointEvaluator([record])
    segmenter = Squares()
    evaluator.process([sample_of(record)], segmenter)
    assert segmenter.images_set == 0
    assert evaluator.curves(evaluator.results) == {}
    with pytest.raises(DataError, match="no segment to click on"):
        evaluator.evaluate()


def test_settings_come_from_the_config_and_are_checked() -> None:
    cfg = load_config(None, ["EVALUATION.POINT.GRANULARITIES", "(0.2, 0.8)"])
    evaluator = build_evaluator("PointEvaluator", cfg, RECORDS)
    assert isinstance(evaluator, PointEvaluator)
    assert evaluator.granularities == (0.2, 0.8)
    with pytest.raises(ValueError, match=r"\[0\.1, 1\], at least one"):
        PointEvaluator(RECORDS, granularities=())
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        PointEvaluator(RECORDS, batch_size=0)
