from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluation.synthetic import ClickableTruth, disc_predictor, measured_in_shares
from unsam.config import load_config
from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation import InteractiveEvaluator, build_evaluator
from unsam.evaluation.clicks import ClickTrace, best_granularity, clicks_to_target
from unsam.structures import MaskSet

RADII = [
    {0.2: (5, 2, 2), 0.6: (9, 2, 0), 1.0: (14, 2, 3)},
    {0.2: (4, 2, 0), 0.6: (6, 2, 1), 1.0: (30, 3, 6)},
]
VALUES = (0.2, 0.6, 1.0)
TARGETS = (80, 85, 90)


def objects() -> np.ndarray:
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 5:35, 5:25] = True
    masks[1, 20:50, 40:75] = True
    return masks


def record(rows: list[dict[str, Any]] | None = None, image_id: int = 1) -> ImageRecord:
    rows = MaskSet.from_masks(objects()).to_coco(image_id) if rows is None else rows
    return ImageRecord(image_id, "/a.jpg", 60, 80, rows)


SAMPLE = {"image_id": 1, "image": np.zeros((60, 80, 3), np.uint8)}


class Confident(ClickableTruth):
    """Has a quality for each granularity of each object; after the first click it misleads."""

    def __init__(self, *args: Any, quality: list[dict[float, float]]) -> None:
        super().__init__(*args)
        self.quality = quality

    def predict_batch(self, points: Any, labels: Any, mask_logits: Any, granularity: Any) -> Any:
        masks, _, logits = super().predict_batch(points, labels, mask_logits, granularity)
        sign = 1.0 if mask_logits is None else -1.0
        worth = []
        for point, value in zip(points, granularity, strict=True):
            x, y = point[0].astype(int)
            owner = next(i for i, item in enumerate(self.objects) if item[y, x])
            worth.append(sign * self.quality[owner][round(float(value), 3)])
        return masks, torch.tensor(worth), logits


class NotGranular(ClickableTruth):
    """Like SAM: one best answer, no granularity."""

    model = SimpleNamespace(is_granular=False)

    def predict_batch(self, points: Any, labels: Any, mask_logits: Any, granularity: Any) -> Any:
        assert granularity is None
        return super().predict_batch(points, labels, mask_logits, np.full(len(labels), 0.6))


def lone_traces(**settings: Any) -> list[dict[float, ClickTrace]]:
    """Each object at each granularity by itself."""
    return [
        {
            value: clicks_to_target(
                disc_predictor(target, *radii[value]), target.astype(np.int8), **settings
            )
            for value in VALUES
        }
        for target, radii in zip(objects(), RADII, strict=True)
    ]


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_batches_give_what_single_clicks_give(batch_size: int) -> None:
    evaluator = InteractiveEvaluator(
        [record()], granularities=VALUES, oracle_granularities=VALUES, batch_size=batch_size
    )
    segmenter = ClickableTruth(list(objects()), RADII)
    evaluator.process([SAMPLE], segmenter)
    metrics = evaluator.evaluate()
    traces = lone_traces()
    for value in VALUES:
        for target in (0.8, 0.85, 0.9):
            clicks = [row[value].clicks_to(target, 20) for row in traces]
            assert metrics[f"noc{round(100 * target)}@g{value}"] == np.mean(clicks)
        assert metrics[f"iou1@g{value}"] == np.mean([row[value].ious[0] for row in traces])
    best = [best_granularity(list(row.items()))[1] for row in traces]
    assert metrics["oracle_noc90"] == np.mean([trace.clicks_to(0.9, 20) for trace in best])
    assert metrics["oracle_iou1"] == np.mean([trace.ious[0] for trace in best])
    assert metrics["oracle_noc90"] <= min(metrics[f"noc90@g{value}"] for value in VALUES)


def test_a_photo_is_encoded_once_and_decoded_at_most_once_per_click() -> None:
    evaluator = InteractiveEvaluator([record()], granularities=VALUES, max_clicks=6)
    segmenter = ClickableTruth(list(objects()), RADII)
    evaluator.process([SAMPLE], segmenter)
    assert segmenter.images_set == 1
    assert len(segmenter.batches) <= 6
    # Finished objects, and granularities that only the oracle asked for, leave the batch.
    assert segmenter.batches == sorted(segmenter.batches, reverse=True)
    assert segmenter.batches[-1] < segmenter.batches[0]


def test_the_oracle_alone_and_the_fixed_alone() -> None:
    for fixed, oracle in (((0.2,), ()), ((), VALUES)):
        evaluator = InteractiveEvaluator(
            [record()], granularities=fixed, oracle_granularities=oracle
        )
        evaluator.process([SAMPLE], ClickableTruth(list(objects()), RADII))
        metrics = evaluator.evaluate()
        assert ("oracle_noc80" in metrics) == bool(oracle)
        assert ("noc80@g0.2" in metrics) == bool(fixed)


QUALITY = [{0.2: 0.4, 0.6: 0.7, 1.0: 0.9}, {0.2: 0.8, 0.6: 0.8, 1.0: 0.1}]
CHOSEN = (1.0, 0.2)


@pytest.mark.parametrize("fixed", [(0.2,), VALUES, ()])
def test_the_predicted_column_stays_with_the_most_confident_first_answer(fixed: Any) -> None:
    evaluator = InteractiveEvaluator(
        [record()], granularities=fixed, oracle_granularities=VALUES, batch_size=4
    )
    evaluator.process([SAMPLE], Confident(list(objects()), RADII, quality=QUALITY))
    metrics = evaluator.evaluate()
    traces = lone_traces()
    wanted = [row[value] for row, value in zip(traces, CHOSEN, strict=True)]
    for target in (0.8, 0.85, 0.9):
        clicks = np.mean([trace.clicks_to(target, 20) for trace in wanted])
        assert metrics[f"noc{round(100 * target)}@predicted"] == clicks
    assert metrics["iou1@predicted"] == np.mean([trace.ious[0] for trace in wanted])
    # The others are what they are without it, and the choice is not the oracle's.
    best = [best_granularity(list(row.items()))[1] for row in traces]
    assert metrics["oracle_noc90"] == np.mean([trace.clicks_to(0.9, 20) for trace in best])
    assert metrics["oracle_noc90"] < metrics["noc90@predicted"]
    for value in fixed:
        clicks = np.mean([row[value].clicks_to(0.9, 20) for row in traces])
        assert metrics[f"noc90@g{value}"] == clicks


def test_a_segmenter_without_granularity_has_one_column() -> None:
    evaluator = InteractiveEvaluator([record()])
    segmenter = NotGranular(list(objects()), RADII)
    evaluator.process([SAMPLE], segmenter)
    metrics = evaluator.evaluate()
    names = [f"{name}{target}" for name in ("noc", "failures", "unreached") for target in TARGETS]
    assert set(metrics) == {"iou1", "photos", "objects", *names}
    traces = [row[0.6] for row in lone_traces()]
    assert metrics["noc90"] == np.mean([trace.clicks_to(0.9, 20) for trace in traces])
    assert segmenter.batches[0] == 2
    assert list(evaluator.curves(evaluator.results)) == ["iou_by_click"]


def test_the_last_click_is_a_failure_that_was_reached() -> None:
    needed = [row[0.6].clicks_to(0.85, 20) for row in lone_traces()]
    assert 1 < needed[0] < needed[1]
    for limit, failures, unreached in (
        (needed[0], 2, 1),
        (needed[1] - 1, 1, 1),
        (needed[1], 1, 0),
        (needed[1] + 1, 0, 0),
    ):
        evaluator = InteractiveEvaluator(
            [record()],
            granularities=(0.6,),
            oracle_granularities=(),
            targets=(0.85,),
            max_clicks=limit,
        )
        evaluator.process([SAMPLE], ClickableTruth(list(objects()), RADII))
        metrics = evaluator.evaluate()
        found = metrics["failures85@g0.6"], metrics["unreached85@g0.6"]
        assert found == (failures, unreached)


def test_curves_hold_the_last_iou() -> None:
    evaluator = InteractiveEvaluator([record()], granularities=(0.6,), oracle_granularities=VALUES)
    evaluator.process([SAMPLE], Confident(list(objects()), RADII, quality=QUALITY))
    curves = evaluator.curves(evaluator.results)
    assert set(curves) == {"iou_by_click@g0.6", "iou_by_click@predicted", "oracle_iou_by_click"}
    traces = [row[0.6] for row in lone_traces()]
    curve = curves["iou_by_click@g0.6"]
    assert curve["x"] == list(range(1, 21))
    for click, value in enumerate(curve["y"]):
        held = [
            trace.ious[click] if click < len(trace.ious) else trace.ious[-1] for trace in traces
        ]
        assert value == pytest.approx(np.mean(held))
    assert evaluator.curves({1: []}) == {}


def test_any_number_of_ranks_gives_the_same_and_each_photo_is_encoded_once() -> None:
    records = [record(None, image_id) for image_id in (3, 1, 9, 4)]
    samples = [SAMPLE | {"image_id": item.image_id} for item in records]
    made: list[Confident] = []

    def segmenter(sample: dict[str, Any]) -> Confident:
        place = sample["image_id"] % 2
        radii = RADII if place else RADII[::-1]
        made.append(Confident(list(objects()), radii, quality=QUALITY))
        return made[-1]

    def make() -> InteractiveEvaluator:
        return InteractiveEvaluator(records, granularities=(0.6,), oracle_granularities=VALUES)

    one, two, three = (measured_in_shares(make, samples, segmenter, n) for n in (1, 2, 3))
    assert one == two == three
    assert one["objects"] == 8
    assert [item.images_set for item in made] == [1] * 12


def test_never_reaching_the_target_is_a_failure_at_the_limit() -> None:
    tiny = [{0.5: (1, 1, 0)}] * 2
    evaluator = InteractiveEvaluator(
        [record()], granularities=(0.5,), oracle_granularities=(), max_clicks=3
    )
    evaluator.process([SAMPLE], ClickableTruth(list(objects()), tiny))
    metrics = evaluator.evaluate()
    assert (metrics["noc80@g0.5"], metrics["failures80@g0.5"]) == (3.0, 2.0)


def chosen(rows: list[dict[str, Any]], **settings: Any) -> set[bytes]:
    evaluator = InteractiveEvaluator([record(rows)], **settings)
    return {item.tobytes() for item in evaluator._choose_objects(record(rows))}


def test_the_choice_of_objects_does_not_depend_on_order_or_ids() -> None:
    rng = np.random.default_rng(3)
    labels = np.kron(np.arange(48).reshape(6, 8), np.ones((10, 10), int))
    rows = MaskSet.from_label_map(labels).to_coco(1)
    first = chosen(rows, max_objects=5)
    assert len(first) == 5
    for _ in range(3):
        shuffled = [dict(rows[place], id=int(place) + 900) for place in rng.permutation(48)]
        assert chosen(shuffled, max_objects=5) == first
    assert chosen(rows, max_objects=5, seed=1) != first
    assert len(chosen(rows, max_objects=0)) == 48


def test_small_objects_and_crowds_are_left_out_and_crowds_ignored() -> None:
    rows = MaskSet.from_masks(objects()).to_coco(1)
    rows[1]["iscrowd"] = 1
    small = np.zeros((1, 60, 80), bool)
    small[0, :3, :3] = True
    rows += MaskSet.from_masks(small).to_coco(1)
    (truth,) = InteractiveEvaluator([record(rows)])._choose_objects(record(rows))
    np.testing.assert_array_equal(truth == 1, objects()[0])
    np.testing.assert_array_equal(truth == -1, objects()[1])


def test_photos_without_objects_are_not_even_encoded() -> None:
    evaluator = InteractiveEvaluator([record([])])
    segmenter = ClickableTruth([], [])
    evaluator.process([SAMPLE], segmenter)
    assert segmenter.images_set == 0
    with pytest.raises(DataError, match="no object of at least 100 pixels"):
        evaluator.evaluate()


def test_settings_come_from_the_config_and_are_checked() -> None:
    overrides = ["EVALUATION.INTERACTIVE.MAX_OBJECTS", "2", "EVALUATION.INTERACTIVE.SEED", "7"]
    cfg = load_config(None, overrides)
    evaluator = build_evaluator("InteractiveEvaluator", cfg, [record()])
    assert isinstance(evaluator, InteractiveEvaluator)
    assert (evaluator.max_objects, evaluator.seed) == (2, 7)
    assert len(evaluator.oracle_granularities) == 10
    with pytest.raises(ValueError, match=r"\[0\.1, 1\]"):
        InteractiveEvaluator([record()], granularities=(0.05,))
    with pytest.raises(ValueError, match="at least one"):
        InteractiveEvaluator([record()], granularities=(), oracle_granularities=())
    with pytest.raises(ValueError, match="max_clicks"):
        InteractiveEvaluator([record()], max_clicks=0)
