"""Every recipe that travels with the package gives a model, or a baseline that can be built."""

from __future__ import annotations

import pytest
import torch

from unsam.config import list_configs, load_config
from unsam.data import ImageRecord
from unsam.evaluation import build_evaluator, build_segmenter
from unsam.evaluation.evaluation_loop import MODEL
from unsam.modeling import SegmentationModel, build_model


@pytest.mark.parametrize("name", list_configs())
def test_the_model_of_every_recipe_is_built(name: str) -> None:
    cfg = load_config(name)
    # Of shapes alone: the largest has 640 million weights.
    with torch.device("meta"):
        assert isinstance(build_model(cfg), SegmentationModel)
    if cfg.EVALUATION.SEGMENTER != MODEL:
        assert callable(build_segmenter(cfg).generate)
    for evaluator in cfg.EVALUATION.EVALUATORS:
        build_evaluator(evaluator, cfg, [ImageRecord(1, "a.jpg", 4, 4)]).reset()
