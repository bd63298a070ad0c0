"""Losses of a model and its objectives, with their weights over the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.modeling.objectives import Objective, WeightSchedule
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.segmentation_model import SegmentationModel
from unsam.modeling.training_context import TaskSampler, TrainingContext
from unsam.modeling.training_model import TrainingModel


class OneWeight(SegmentationModel):
    def __init__(self) -> None:
        super().__init__(pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1))
        self.weight = nn.Parameter(torch.tensor(2.0))

    def encode(self, images: Sequence[Tensor]) -> Tensor:
        return self.weight * torch.stack([image.float().mean() for image in images])

    def count_targets(
        self,
        batch: Sequence[dict[str, Any]],
        random: SampleRandom,
        tasks: TaskSampler | None = None,
    ) -> int:
        return sum(len(sample["masks"]) for sample in batch)

    def losses(self, context: TrainingContext) -> dict[str, Tensor]:
        return {"loss_a": context.features.sum() / context.num_masks, "metric": torch.tensor(7.0)}


class Square(Objective):
    def __init__(self, *, schedule: WeightSchedule) -> None:
        super().__init__(schedule=schedule)
        self.head = nn.Parameter(torch.tensor(3.0))
        self.calls = 0

    def forward(self, model: SegmentationModel, context: TrainingContext) -> dict[str, Tensor]:
        self.calls += 1
        return {"loss_square": self.head * context.features.sum(), "square": torch.tensor(1.0)}


def batch(count: int = 2) -> list[dict[str, Any]]:
    image, masks = torch.ones(3, 4, 4), torch.ones(3, 4, 4, dtype=torch.bool)
    return [{"image": image, "masks": masks, "seed": index} for index in range(count)]


def test_objectives_are_weighted_by_progress_and_left_out_at_zero() -> None:
    fade = Square(schedule=WeightSchedule(2.0, "cosine", 0.0, 0.5))
    training = TrainingModel(OneWeight(), {"SQUARE": fade})
    early = training(batch(), 6.0, 0.0)
    assert early["loss_a"].item() == pytest.approx(4 / 6)
    assert early["loss_square"].item() == pytest.approx(2 * 3 * 4)
    assert (early["metric"], early["square"]) == (7, 1)
    half = training(batch(), 6.0, 0.25)
    assert half["loss_square"].item() == pytest.approx(3 * 4)
    late = training(batch(), 6.0, 0.6)
    assert "loss_square" not in late
    assert fade.calls == 2


def test_every_parameter_has_a_gradient_even_when_its_objective_is_off() -> None:
    training = TrainingModel(OneWeight(), {"SQUARE": Square(schedule=WeightSchedule(1, "linear"))})
    losses = training(batch(), 6.0, 0.0)
    assert losses.keys() == {"loss_a", "metric"}
    assert losses["loss_a"].item() == pytest.approx(4 / 6)
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    assert all(parameter.grad is not None for parameter in training.parameters())
    assert training.objectives["SQUARE"].head.grad == 0


def test_losses_of_the_model_follow_their_own_schedules() -> None:
    training = TrainingModel(OneWeight(), {}, {"loss_a": WeightSchedule(1.0, "linear", 0.0, 0.5)})
    assert training(batch(), 1.0, 0.25)["loss_a"].item() == pytest.approx(2.0)
    unknown = TrainingModel(OneWeight(), {}, {"loss_b": WeightSchedule(1.0)})
    with pytest.raises(ConfigError, match="no loss 'loss_b'; there are loss_a"):
        unknown(batch(), 1.0, 0.0)


def test_the_teacher_is_no_part_of_what_is_trained() -> None:
    training = TrainingModel(OneWeight())
    training.set_teacher(OneWeight())
    assert training.teacher is not None
    assert len(list(training.parameters())) == 1
    assert training.count_targets(batch()) == 6


def test_bad_entries_of_the_config_are_named() -> None:
    cfg = get_cfg()
    cfg.CRITERION.SCHEDULES = (("loss_a", "up", 0.0, 1.0),)
    with pytest.raises(ConfigError, match="one of constant, linear, cosine, got 'up'"):
        TrainingModel.from_config(cfg, OneWeight())
    cfg.CRITERION.SCHEDULES = (("loss_a", "linear"),)
    with pytest.raises(ConfigError, match=r"an entry is \[loss, kind, start, end\]"):
        TrainingModel.from_config(cfg, OneWeight())
    cfg = get_cfg()
    cfg.OBJECTIVES.CONTRAST.WEIGHT = -1.0
    with pytest.raises(ConfigError, match=r"OBJECTIVES.CONTRAST.WEIGHT is at least 0, got -1.0"):
        TrainingModel.from_config(cfg, OneWeight())
