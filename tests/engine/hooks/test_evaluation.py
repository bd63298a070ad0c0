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


def evaluate(model: SegmentationModel) -> dict[str, dict[str, dict[str, float]]]:
    assert not any(module.training for module in model.modules())
    random.random(), np.random.random(), torch.rand(())  # noqa: NPY002
    return {"set": {"Recall": {"AR@10": 0.25}, "Clicks": {"noc80": 7.0}}}


def test_numbers_are_logged_and_training_goes_on_as_if_nothing_had_been(
    annotations: Path, tmp_path: Path
) -> None:
    kept, log = kept_log()
    runs = {}
    for name, hooks in {"plain": [], "evaluated": [EvaluationHook(2, evaluate, log), log]}.items():
        recorder = Recorder()
        cfg = tiny_cfg(annotations, tmp_path / name, MAX_ITER=4)
        trainer, _ = make_trainer(cfg, *hooks, recorder)
        trainer.train()
        runs[name] = recorder.steps, random_state.capture(trainer.device)
    assert same(runs["plain"], runs["evaluated"])
    numbers = {"eval/set/AR@10": 0.25, "eval/set/noc80": 7.0}
    assert kept.records == [{"iteration": 2, **numbers}, {"iteration": 4, **numbers}]
