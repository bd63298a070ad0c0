from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.evaluation.synthetic import made_up_dataset, measured_in_shares
from unsam.config import load_config
from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation import GranularityEvaluator, build_evaluator
from unsam.structures import MaskSet

VALUES = (0.1, 0.3, 0.6, 1.0)
SIDES = {0.1: 9, 0.3: 15, 0.6: 24, 1.0: 36}  # 9 + 27 (g - 0.1) / 0.9, as the formula wants it
SIZE = (80, 120)


def truth() -> MaskSet:
    masks = np.zeros((4, *SIZE), bool)
    masks[0, :36, :36] = True
    masks[1, 40:55, 40:55] = True
    masks[2, 3:9, 100:111] = True
    masks[3, :, 60:] = True
    return MaskSet.from_masks(masks)


def record(image_id: int = 1) -> ImageRecord:
    return ImageRecord(image_id, "/a.jpg", *SIZE, truth().to_coco(image_id))


def sample(image_id: int = 1) -> dict[str, Any]:
    return {"image_id": image_id, "image": np.zeros((*SIZE, 3), np.uint8)}


def grid_squares(side: int) -> np.ndarray:
    """A square of this side at the corner of each cell of 40 pixels."""
    masks = np.zeros((6, *SIZE), bool)
    for index, mask in enumerate(masks):
        top, left = 40 * (index // 3), 40 * (index % 3)
        mask[top : top + side, left : left + side] = True
    return masks


class Grid:
    """Nested squares in each cell; gives those of the granularity asked for, or of another.

    Args:
        given: granularity asked for -> granularities given.
        drift: by how many columns answers to clicks move per step of granularity.
    """

    takes_prompts = True

    def __init__(self, given: dict[float, tuple[float, ...]], drift: int = 0) -> None:
        self.given = given
        self.drift = drift
        self.images_set = 0
        self.asked: list[float | None] = []

    def set_image(self, image: np.ndarray) -> None:
        self.images_set += 1

    def generate(self, image: np.ndarray | None, granularity: float | None = None) -> MaskSet:
        assert image is None
        self.asked.append(granularity)
        values = VALUES if granularity is None else self.given[granularity]
        return MaskSet.from_masks(np.concatenate([grid_squares(SIDES[value]) for value in values]))

    def answer(self, x: int, y: int, value: float) -> np.ndarray:
        """A square with the click at its top left; none for clicks on the right third."""
        mask = np.zeros(SIZE, bool)
        side = 0 if x > 80 and value < 0.5 else SIDES[value]
        left = x + self.drift * VALUES.index(value)
        mask[y : y + side, left : left + side] = True
        return mask

    def predict_batch(self, points: Any, labels: Any, mask_logits: Any, granularity: Any) -> Any:
        assert mask_logits is None
        assert (labels == 1).all()
        assert len(points) <= 8
        answers = [
            self.answer(int(x), int(y), round(float(value), 3))
            for (x, y), value in zip(points[:, 0], granularity, strict=True)
        ]
        return np.stack(answers), np.ones(len(answers)), np.zeros((len(answers), 1, 1))


class Baseline:
    """A segmenter that only segments whole photos."""

    def generate(self, image: np.ndarray, granularity: Any = None) -> MaskSet:
        assert image.shape == (*SIZE, 3)
        return MaskSet.from_masks(grid_squares(36))


OBEDIENT = {value: (value,) for value in VALUES}
CONTRARY = dict(zip(VALUES, [(value,) for value in VALUES[::-1]], strict=True))
DEAF = dict.fromkeys(VALUES, VALUES)


def evaluated(segmenter: Any, **settings: Any) -> GranularityEvaluator:
    evaluator = GranularityEvaluator([record()], batch_size=8, **settings)
    evaluator.process([sample()], segmenter)
    return evaluator


@pytest.mark.parametrize(
    ("given", "spearman", "errors"),
    [
        (OBEDIENT, 1.0, [0.0, 0.0, 0.0, 0.0]),
        (CONTRARY, -1.0, [0.9, 0.3, 0.3, 0.9]),
        (DEAF, 0.0, [0.4, 0.3, 0.3, 0.5]),
    ],
)
def test_calibration(given: Any, spearman: float, errors: list[float]) -> None:
    evaluator = evaluated(Grid(given))
    metrics = evaluator.evaluate()
    assert metrics["calibration_spearman"] == pytest.approx(spearman)
    assert metrics["calibration_error"] == pytest.approx(np.mean(errors))
    for value, error in zip(VALUES, errors, strict=True):
        assert metrics[f"calibration_error@g{value}"] == pytest.approx(error)
        assert metrics[f"regions@g{value}"] == 6 * len(given[value])
    curves = evaluator.curves(evaluator.results)
    measured = [np.mean(given[value]) for value in VALUES]
    assert curves["measured_granularity"]["x"] == list(VALUES)
    assert curves["measured_granularity"]["y"] == pytest.approx(measured)
    assert curves["calibration_error"]["y"] == pytest.approx(errors)
    assert curves["regions"]["y"] == [6 * len(given[value]) for value in VALUES]


def test_one_level_of_regions_has_no_granularity_to_measure() -> None:
    metrics = evaluated(Grid(dict.fromkeys(VALUES, (0.3,)))).evaluate()
    assert math.isnan(metrics["calibration_spearman"])
    assert math.isnan(metrics["calibration_error"])
    assert metrics["regions@g0.1"] == 6


@pytest.mark.parametrize("drift", [0, 4])
def test_nesting_violation_is_the_share_outside(drift: int) -> None:
    segmenter = Grid(OBEDIENT, drift)
    evaluator = evaluated(segmenter, clicks_per_side=5)
    shares: dict[float, list[float]] = {value: [] for value in VALUES[:-1]}
    for row in range(5):
        for column in range(5):
            x, y = int((column + 0.5) * 120 / 5), int((row + 0.5) * 80 / 5)
            answers = [segmenter.answer(x, y, value) for value in VALUES]
            for finer in range(3):
                for coarser in range(finer + 1, 4):
                    area = answers[finer].sum()
                    outside = (answers[finer] & ~answers[coarser]).sum()
                    shares[VALUES[finer]].append(outside / area if area else 0.0)
    expected = np.mean([share for row in shares.values() for share in row])
    assert (expected > 0.05) == (drift > 0)
    assert evaluator.evaluate()["nesting_violation"] == pytest.approx(expected, abs=1e-6)
    curve = evaluator.curves(evaluator.results)["nesting_violation"]
    assert curve["x"] == list(VALUES[:-1])
    assert curve["y"] == pytest.approx([np.mean(row) for row in shares.values()], abs=1e-6)


def test_recall_by_octave() -> None:
    evaluator = evaluated(Grid(OBEDIENT))
    metrics = evaluator.evaluate()
    found = np.concatenate([grid_squares(side) for side in SIDES.values()])
    levels = [0.5 + 0.05 * step for step in range(10)]
    recalls = []
    for target in truth().masks():
        best = max((mask & target).sum() / (mask | target).sum() for mask in found)
        recalls.append(np.mean([best >= level - 1e-9 for level in levels]))
    # Sides 36, 15, 8.1 and 69.3 of a photo of side 98.
    assert recalls[:2] == [1.0, 1.0]
    names = ["side1/4", "side1/8", "side1/16", "side1/2"]
    for name, recall in zip(names, recalls, strict=True):
        assert metrics[f"recall@{name}"] == pytest.approx(recall)
        assert metrics[f"objects@{name}"] == 1
    assert metrics["recall"] == pytest.approx(np.mean(recalls))
    assert math.isnan(metrics["recall@side1/32"])
    assert metrics["objects@side0"] == 0
    curve = evaluator.curves(evaluator.results)["recall_by_side"]
    assert curve["x"][:3] == [0.5, 0.25, 0.125]
    assert curve["y"][:3] == [metrics[f"recall@side1/{n}"] for n in (2, 4, 8)]


def test_only_the_best_masks_count() -> None:
    score = [0.1, 0.9, 0.9, 0.9]
    stored = truth().replace(score=np.array(score, np.float32))
    segmenter = SimpleNamespace(generate=lambda image, granularity: stored)
    assert evaluated(segmenter).evaluate()["recall"] == 1.0
    assert evaluated(segmenter, max_masks=3).evaluate()["recall@side1/4"] == 0.0


def test_segmenters_that_know_no_granularity_have_recall_only() -> None:
    evaluator = evaluated(Baseline())
    metrics = evaluator.evaluate()
    assert metrics["recall@side1/4"] == 1.0
    assert {name.split("@")[0] for name in metrics} == {"photos", "recall", "objects"}
    assert set(evaluator.curves(evaluator.results)) == {"recall_by_side"}
    plain = Grid({})
    plain.model = SimpleNamespace(is_granular=False)  # type: ignore[attr-defined]
    assert "calibration_error" not in evaluated(plain).evaluate()
    assert plain.asked == [None]


def test_each_photo_is_encoded_once_and_the_first_are_swept() -> None:
    records = [record(image_id) for image_id in (7, 3, 5)]
    evaluator = GranularityEvaluator(records, batch_size=8, sweep_photos=1, clicks_per_side=0)
    segmenters = []
    for item in records:
        segmenters.append(Grid(OBEDIENT))
        evaluator.process([sample(item.image_id)], segmenters[-1])
    assert [item.images_set for item in segmenters] == [1, 1, 1]
    assert [item.asked for item in segmenters] == [[None, *VALUES], [None], [None]]
    metrics = evaluator.evaluate()
    assert (metrics["photos"], metrics["sweep_photos"]) == (3, 1)
    assert "nesting_violation" not in metrics


def test_any_number_of_ranks_gives_the_same() -> None:
    records = [record(image_id) for image_id in (7, 3, 5, 4)]
    samples = [sample(item.image_id) for item in records]

    def segmenter(item: dict[str, Any]) -> Grid:
        return Grid(CONTRARY if item["image_id"] == 3 else OBEDIENT, drift=item["image_id"])

    def make() -> GranularityEvaluator:
        return GranularityEvaluator(records, batch_size=8, sweep_photos=3, clicks_per_side=3)

    one, two, three = (measured_in_shares(make, samples, segmenter, n) for n in (1, 2, 3))
    np.testing.assert_equal(two, one)
    np.testing.assert_equal(three, one)
    assert one["sweep_photos"] == 3
    assert 0 < one["calibration_spearman"] < 1


def test_masks_of_another_size_are_refused() -> None:
    records, _ = made_up_dataset(1)
    segmenter = Baseline()
    with pytest.raises(DataError, match="masks of"):
        GranularityEvaluator(records).process([sample(records[0].image_id)], segmenter)


def test_settings_come_from_the_config_and_are_checked() -> None:
    overrides = ["EVALUATION.GRANULARITY_SWEEP.GRANULARITIES", "(0.8, 0.2)"]
    evaluator = build_evaluator("GranularityEvaluator", load_config(None, overrides), [record()])
    assert isinstance(evaluator, GranularityEvaluator)
    assert evaluator.granularities == (0.2, 0.8)
    assert evaluator.max_masks == 1000
    with pytest.raises(ValueError, match="at least two"):
        GranularityEvaluator([record()], granularities=(0.3, 0.3))
    with pytest.raises(ValueError, match="batch_size and max_masks must be at least 1"):
        GranularityEvaluator([record()], batch_size=0)
