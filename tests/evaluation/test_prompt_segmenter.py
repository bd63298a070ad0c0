from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluation.synthetic import ClickableTruth, Replay
from tests.modeling.conftest import draw_blobs, tiny_cfg
from tests.modeling.sam.tiny import tiny_sam
from tests.modeling.semantic_sam.conftest import tiny_model
from unsam.data import ImageRecord
from unsam.errors import ConfigError
from unsam.evaluation import GranularityEvaluator, InteractiveEvaluator, PointEvaluator
from unsam.evaluation.prompt_segmenter import PromptSegmenter, is_granular
from unsam.inference import Segmenter
from unsam.modeling import build_model
from unsam.structures import MaskSet

SIZE = (48, 64)
PHOTO = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
SAMPLE = {"image_id": 1, "image": PHOTO}
VALUES = (0.2, 0.7)


def record() -> ImageRecord:
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 4:24, 5:35] = True
    masks[1, 20:44, 30:60] = True
    return ImageRecord(1, "/a.jpg", *SIZE, MaskSet.from_masks(masks).to_coco(1))


def granular_sam() -> Any:
    torch.manual_seed(0)
    model = build_model(tiny_cfg())
    draw_blobs(model)
    return model


MODELS: dict[str, tuple[Callable[[], Any], bool, int]] = {
    "GranularSam": (granular_sam, True, 2),
    "granular Sam": (lambda: tiny_sam(granular=True), True, 2),
    "plain Sam": (tiny_sam, False, 3),
    "SemanticSam": (tiny_model, False, 6),
}


@pytest.fixture(params=sorted(MODELS))
def case(request: pytest.FixtureRequest) -> tuple[Segmenter, bool, int]:
    make, granular, answers = MODELS[request.param]
    return Segmenter(make(), "cpu"), granular, answers


def test_every_model_through_every_evaluator(case: tuple[Segmenter, bool, int]) -> None:
    segmenter, granular, answers = case
    assert isinstance(segmenter, PromptSegmenter)
    assert is_granular(segmenter) == granular
    encoded = 0

    def encode(images: Any, run: Any = segmenter.model.encode) -> Any:
        nonlocal encoded
        encoded += 1
        return run(images)

    segmenter.model.encode = encode  # type: ignore[method-assign]
    evaluators = (
        InteractiveEvaluator(
            [record()], granularities=(0.2,), oracle_granularities=VALUES, max_clicks=1
        ),
        PointEvaluator([record()], granularities=VALUES),
        GranularityEvaluator([record()], granularities=VALUES, clicks_per_side=2),
    )
    for count, evaluator in enumerate(evaluators, start=1):
        evaluator.process([SAMPLE], segmenter)
        assert encoded == count
    clicks, points, sizes = (evaluator.evaluate() for evaluator in evaluators)
    assert ("iou1" in clicks) == (not granular)
    assert ("iou1@predicted" in clicks) == granular
    assert ("nesting_violation" in sizes) == granular
    # Both evaluators click at the same place.
    if granular:
        assert points["point_oracle"] == pytest.approx(clicks["oracle_iou1"])
        assert points["point_max"] == pytest.approx(clicks["iou1@predicted"])
    ious = []
    segmenter.set_image(PHOTO)
    for target, point in zip(record().masks().masks(), ([14, 13], [41, 31]), strict=True):
        masks = segmenter.predict(points=[point], granularity=VALUES if granular else None).masks
        assert len(masks) == answers
        ious.append(max((mask & target).sum() / (mask | target).sum() for mask in masks))
    assert points["point_oracle"] == pytest.approx(np.mean(ious))


def test_segmenters_without_a_model() -> None:
    assert is_granular(ClickableTruth([], []))
    assert not is_granular(Replay([]))


def test_a_model_of_one_click_is_refused_more() -> None:
    evaluator = InteractiveEvaluator([record()], max_clicks=2)
    with pytest.raises(ConfigError, match=r"SemanticSam cannot .*MAX_CLICKS to 1"):
        evaluator.process([SAMPLE], Segmenter(tiny_model(), "cpu"))
