"""The moving average: its formula, its buffers, and that a resumed run goes on with it exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny import TinyTestModel, make_dataset, make_trainer, tiny_cfg
from unsam.checkpoint.checkpointer import load_checkpoint
from unsam.config import config_text
from unsam.engine.ema import WeightAverage
from unsam.engine.run_state import resume_newest
from unsam.engine.trainer import Hook, Trainer
from unsam.errors import ConfigError

DECAY = 0.6


class Kept(Hook):
    """Keeps the model's weights after each step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def after_step(self, trainer: Trainer) -> None:
        state = trainer.model.state_dict()
        self.weights.append({name: tensor.clone() for name, tensor in state.items()})


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"), ["a.png", "b.png", "c.png"])


def average_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    assert trainer.average is not None
    return trainer.average.model.state_dict()


def run(annotations: Path, output: Path, *hooks: Hook, decay: float = DECAY, **solver: Any) -> Any:
    cfg = tiny_cfg(annotations, output, **{"MAX_ITER": 6} | solver)
    cfg.SOLVER.EMA.DECAY = decay
    trainer, checkpointer = make_trainer(cfg, *hooks)
    resume_newest(trainer, checkpointer, config_text(cfg))
    trainer.train()
    return trainer, checkpointer


def test_average_is_the_formula_step_by_step(annotations: Path, tmp_path: Path) -> None:
    kept = Kept()
    trainer, _ = run(annotations, tmp_path, kept)
    start = make_trainer(tiny_cfg(annotations, tmp_path))[0].model.state_dict()
    for name, average in average_of(trainer).items():
        if not average.is_floating_point():
            assert torch.equal(average, kept.weights[-1][name]), "counts are those of the model"
            continue
        expected = start[name].double()
        for step, weights in enumerate(kept.weights, start=1):
            decay = min(DECAY, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * weights[name].double()
        torch.testing.assert_close(average.double(), expected, rtol=1e-5, atol=1e-6, msg=name)
    assert not torch.equal(average_of(trainer)["norm.running_mean"], start["norm.running_mean"])


def test_average_takes_no_gradient_and_stays_in_evaluation_mode() -> None:
    model = TinyTestModel()
    average = WeightAverage(model.train(), 0.9)
    model.train()
    assert not average.model.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    own = {parameter.data_ptr() for parameter in model.parameters()}
    assert own.isdisjoint(parameter.data_ptr() for parameter in average.model.parameters())


def test_resumed_average_is_that_of_the_uninterrupted_run(
    annotations: Path, tmp_path: Path
) -> None:
    straight, _ = run(annotations, tmp_path / "straight")

    class Crash(Hook):
        def after_step(self, trainer: Trainer) -> None:
            if trainer.iteration == 4:
                raise KeyError("crash")

    cfg = tiny_cfg(annotations, tmp_path / "parts", MAX_ITER=6)
    cfg.SOLVER.EMA.DECAY, cfg.CHECKPOINT.PERIOD = DECAY, 3
    with pytest.raises(KeyError):
        make_trainer(cfg, Crash())[0].train()
    resumed, checkpointer = run(annotations, tmp_path / "parts")
    for name, average in average_of(resumed).items():
        assert torch.equal(average, average_of(straight)[name]), name
    saved = load_checkpoint(checkpointer.paths()[-1])["average"]
    assert all(torch.equal(saved[name], tensor) for name, tensor in average_of(resumed).items())


def test_average_that_is_new_to_a_run_starts_from_its_model(
    annotations: Path, tmp_path: Path
) -> None:
    without, _ = run(annotations, tmp_path, decay=0.0, MAX_ITER=2)
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=4)
    cfg.SOLVER.EMA.DECAY = DECAY
    trainer, checkpointer = make_trainer(cfg)
    resume_newest(trainer, checkpointer, config_text(cfg))
    for name, tensor in without.model.state_dict().items():
        assert torch.equal(average_of(trainer)[name], tensor), name


def test_what_is_handed_out_is_the_average(annotations: Path, tmp_path: Path) -> None:
    with_average, _ = run(annotations, tmp_path / "with", MAX_ITER=2)
    without, _ = run(annotations, tmp_path / "without", decay=0.0, MAX_ITER=2)
    assert with_average.whole_model() is with_average.average.model
    assert without.whole_model() is without.model


@pytest.mark.parametrize("decay", [1.0, 1.5, -0.1])
def test_decays_that_are_no_share_are_refused(
    annotations: Path, tmp_path: Path, decay: float
) -> None:
    cfg = tiny_cfg(annotations, tmp_path)
    cfg.SOLVER.EMA.DECAY = decay
    with pytest.raises(ConfigError, match=r"SOLVER\.EMA\.DECAY"):
        make_trainer(cfg)
