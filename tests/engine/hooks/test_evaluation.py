"""Evaluations during the run."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

from tests.engine.equality import same
from tests.engine.hooks.kept import kept_log
from tests.engine.tiny import Recorder, make_trainer, tiny_cfg
from unsam.engine import random_state
from unsam.engine.hooks import EvaluationHook
from unsam.modeling import SegmentationModel

RESULTS = {"set": {"Recall": {"AR@10": 0.25}, "Clicks": {"noc80": 7.0}}}


def test_numbers_are_logged_and_training_goes_on_as_if_nothing_had_been(
    annotations: Path, tmp_path: Path
) -> None:
    def evaluate(model: SegmentationModel) -> dict[str, dict[str, dict[str, float]]]:
        assert not any(module.training for module in model.modules())
        random.random(), np.random.random(), torch.rand(())  # noqa: B018, NPY002
        return RESULTS

    kept, log = kept_log()
    plain, evaluated = Recorder(), Recorder()
    cfg = tiny_cfg(annotations, tmp_path / "plain", MAX_ITER=4)
    first, _ = make_trainer(cfg, plain)
    first.train()
    expected = random_state.capture(first.device)
    cfg.OUTPUT_DIR = str(tmp_path / "evaluated")
    trainer, _ = make_trainer(cfg, EvaluationHook(2, evaluate, log), evaluated, log)
    trainer.model.norm.eval()
    trainer.model.norm.train = lambda mode=True: trainer.model.norm  # type: ignore[method-assign]
    trainer.train()
    assert not trainer.model.norm.training
    assert trainer.model.head.training
    assert same(random_state.capture(trainer.device), expected)
    assert [row[0] for row in evaluated.steps] == [row[0] for row in plain.steps]
    numbers = {"eval/set/AR@10": 0.25, "eval/set/noc80": 7.0}
    assert kept.records == [{"iteration": 2, **numbers}, {"iteration": 4, **numbers}]
