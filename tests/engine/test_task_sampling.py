"""Training with the adaptive task sampler: exact before its start, exact after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fvcore.common.config import CfgNode

from tests.engine.equality import same
from tests.engine.tiny import Recorder, SignalAt, make_dataset, make_trainer, tiny_cfg
from tests.modeling.conftest import tiny_cfg as tiny_granular_cfg
from unsam.checkpoint.checkpointer import load_checkpoint
from unsam.config import config_text
from unsam.engine import Hook, Trainer
from unsam.engine.run_state import resume_newest
from unsam.engine.stop_signals import StoppedBySignalError

STEPS = 12
PERIOD = 3
# Frozen from step 3 on, so that steps 6 to 11 draw by difficulty.
FIRST_ADAPTIVE = 6


class PhotoRecorder(Hook):
    """Keeps which photos each step saw."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []
        self._seen: list[int] = []

    def before_train(self, trainer: Trainer) -> None:
        count_targets = trainer.training_model.count_targets

        def count_and_note(batch: Any) -> int:
            self._seen += [sample["photo"] for sample in batch]
            return count_targets(batch)

        trainer.training_model.count_targets = count_and_note  # type: ignore[method-assign]

    def after_step(self, trainer: Trainer) -> None:
        self.steps.append(self._seen)
        self._seen = []


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"), [f"{n}.png" for n in range(9)])


def make_cfg(annotations: Path, output: Path, enabled: bool = True, workers: int = 0) -> CfgNode:
    cfg = tiny_cfg(annotations, output, MAX_ITER=STEPS)
    granular = tiny_granular_cfg()
    cfg.MODEL = granular.MODEL
    cfg.MODEL.CLICKS.ROUNDS = 1
    cfg.MODEL.CLICKS.BOX_PROBABILITY = 0.3
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.TASKS.ENABLED = enabled
    cfg.TASKS.START = 0.25
    cfg.TASKS.REFRESH_PERIOD = PERIOD
    return cfg


def run(cfg: CfgNode, *hooks: Hook, resume: bool = False) -> dict[str, Any]:
    trainer, checkpointer = make_trainer(cfg, *hooks)
    if resume:
        assert resume_newest(trainer, checkpointer, config_text(cfg))
    trainer.train()
    return load_checkpoint(checkpointer.paths()[-1])


@pytest.fixture(scope="module")
def straight(
    annotations: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], list[Any], list[list[int]]]:
    photos, recorder = PhotoRecorder(), Recorder()
    final = run(make_cfg(annotations, tmp_path_factory.mktemp("straight")), photos, recorder)
    return final, recorder.steps, photos.steps


@pytest.mark.parametrize(("stop", "workers"), [(2, 1), (5, 1), (6, 0), (7, 1)])
def test_resumed_run_equals_uninterrupted_run(
    annotations: Path, straight: Any, tmp_path: Path, stop: int, workers: int
) -> None:
    cfg = make_cfg(annotations, tmp_path, workers=workers)
    photos, recorder = PhotoRecorder(), Recorder()
    with pytest.raises(StoppedBySignalError):
        run(cfg, photos, recorder, SignalAt(stop))
    photos._seen = []  # of the step that the signal came before
    final = run(cfg, photos, recorder, resume=True)
    assert recorder.steps == straight[1]
    assert photos.steps == straight[2]
    for entry in ("model", "optimizer", "tasks"):
        assert same(final[entry], straight[0][entry]), entry


def test_until_chances_are_frozen_training_is_as_without(
    annotations: Path, straight: Any, tmp_path: Path
) -> None:
    photos, recorder = PhotoRecorder(), Recorder()
    run(make_cfg(annotations, tmp_path, enabled=False), photos, recorder)
    assert recorder.steps[:FIRST_ADAPTIVE] == straight[1][:FIRST_ADAPTIVE]
    assert photos.steps[:FIRST_ADAPTIVE] == straight[2][:FIRST_ADAPTIVE]
    assert photos.steps[FIRST_ADAPTIVE:] != straight[2][FIRST_ADAPTIVE:]
