"""Training in float16: gradients that overflow cost a step, not the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny import Recorder, SignalAt, make_dataset, make_trainer, tiny_cfg
from unsam.checkpoint.checkpointer import load_checkpoint
from unsam.config import config_text
from unsam.engine.run_state import resume_newest
from unsam.engine.stop_signals import StoppedBySignalError
from unsam.engine.trainer import Trainer
from unsam.errors import TrainingError

STEPS = 8


class WeightRecorder(Recorder):
    """Keeps the weights after each step too."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[torch.Tensor] = []

    def after_step(self, trainer: Trainer) -> None:
        super().after_step(trainer)
        self.weights.append(trainer.model.head.weight.detach().clone())


def run(annotations: Path, output: Path, *hooks: Any, **solver: Any) -> tuple[Any, ...]:
    values = {"MAX_ITER": STEPS, "PRECISION": "float16"} | solver
    cfg = tiny_cfg(annotations, output, **values)
    recorder = WeightRecorder()
    trainer, checkpointer = make_trainer(cfg, recorder, *hooks)
    if resume_newest(trainer, checkpointer, config_text(cfg)):
        assert trainer.scaler.get_scale() < 65536.0
    return trainer, recorder, checkpointer


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"loud_{number}.png" for number in range(4)]
    return make_dataset(tmp_path_factory.mktemp("loud"), names)


def test_overflowing_steps_are_skipped_and_counted(loud: Path, tmp_path: Path) -> None:
    trainer, recorder, checkpointer = run(loud, tmp_path)
    trainer.train()
    skipped = [step[1]["skipped_steps"] for step in recorder.steps]
    assert skipped[0] == 1.0
    assert skipped[-1] == 0.0
    assert skipped == sorted(skipped, reverse=True)
    scales = [step[1]["gradient_scale"] for step in recorder.steps]
    assert scales[0] == 65536.0
    for index in range(1, STEPS):
        assert scales[index] == scales[index - 1] * (0.5 if skipped[index - 1] else 1.0)
        moved = not torch.equal(recorder.weights[index], recorder.weights[index - 1])
        assert moved == (skipped[index] == 0.0)
        assert (recorder.steps[index][3] == 0.0) == (skipped[index] == 1.0)
    assert load_checkpoint(checkpointer.paths()[-1])["scaler"]["scale"] == scales[-1]


def test_scale_survives_a_stop(loud: Path, tmp_path: Path) -> None:
    straight, steps, _ = run(loud, tmp_path / "straight")
    straight.train()
    first, before, _ = run(loud, tmp_path / "stopped", SignalAt(2))
    with pytest.raises(StoppedBySignalError):
        first.train()
    second, after, _ = run(loud, tmp_path / "stopped")
    second.train()
    assert before.steps + after.steps == steps.steps
    assert torch.equal(second.model.head.weight, straight.model.head.weight)


def test_float16_learns_as_float32_does(tmp_path: Path) -> None:
    annotations = make_dataset(tmp_path / "data", [f"photo_{number}.png" for number in range(4)])
    half, in_half, _ = run(annotations, tmp_path / "half")
    full, in_full, _ = run(annotations, tmp_path / "full", PRECISION="float32")
    half.train()
    full.train()
    assert all(step[1]["skipped_steps"] == 0.0 for step in in_half.steps)
    for one, other in zip(in_half.steps, in_full.steps, strict=True):
        assert one[1]["loss_mask"] == pytest.approx(other[1]["loss_mask"], rel=1e-2)
        assert one[3] == pytest.approx(other[3], rel=5e-2)


@pytest.mark.parametrize(
    ("name", "iteration", "words"),
    [("poison", 1, "loss_mask is nan"), ("steep", 17, "the gradient norm is")],
)
def test_what_no_scale_can_mend_is_an_error(
    tmp_path: Path, name: str, iteration: int, words: str
) -> None:
    annotations = make_dataset(tmp_path / "data", [f"{name}_{number}.png" for number in range(2)])
    trainer, _, _ = run(annotations, tmp_path / "run", MAX_ITER=30)
    with pytest.raises(TrainingError, match=f"^iteration {iteration}: {words}"):
        trainer.train()
