"""What every training objective beside a model's own losses promises, and their registry."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from fvcore.common.config import CfgNode
from torch import Tensor, nn

from unsam.config.registry import Registry
from unsam.errors import ConfigError
from unsam.modeling.objectives.weight_schedule import WeightSchedule
from unsam.modeling.segmentation_model import SegmentationModel
from unsam.modeling.training_context import TrainingContext

OBJECTIVES = Registry(
    "OBJECTIVES",
    {
        "Consistency": "unsam.modeling.objectives.consistency",
        "Propagation": "unsam.modeling.objectives.propagation",
        "Contrast": "unsam.modeling.objectives.contrast",
        "Visa": "unsam.modeling.objectives.visa",
        "Nesting": "unsam.modeling.objectives.nesting",
    },
)
"""Objectives by class; the node ``OBJECTIVES.CONTRAST`` is of the class ``Contrast``."""


class Objective(nn.Module):
    """A term of the loss that any model may be trained with; on while its weight is not zero.

    Attributes:
        needs_teacher: whether it compares with the moving average of the model.
        schedule: its weight over the training; `TrainingModel` applies it.
    """

    needs_teacher: ClassVar[bool] = False

    def __init__(self, *, schedule: WeightSchedule) -> None:
        super().__init__()
        self.schedule = schedule

    @classmethod
    def from_config(cls, cfg: CfgNode, model: SegmentationModel) -> dict[str, Any]:
        """Translate the objective's node into the constructor's arguments, but for `schedule`.

        Raises:
            ConfigError: the model cannot be trained with it.
        """
        raise NotImplementedError

    def forward(self, model: SegmentationModel, context: TrainingContext) -> dict[str, Tensor]:
        """Return the terms of one micro-batch, scalars by name.

        Those that start with ``loss_`` are unweighted and added to the loss; the others are
        metrics without gradient. A loss is a mean over the samples of the micro-batch, one that
        has nothing to say counting as zero: so ranks and micro-batches average to the same number
        however a step is dealt out. The names are the same for every batch.
        """
        raise NotImplementedError


def build_objectives(cfg: CfgNode, model: SegmentationModel) -> dict[str, Objective]:
    """Return the objectives whose weight is over zero, by name, in the order of the config.

    Raises:
        ConfigError: a weight below zero or not finite, a value that its class refuses, or one that
            needs a teacher without ``SOLVER.EMA.DECAY``.
    """
    built: dict[str, Objective] = {}
    for name, node in cfg.OBJECTIVES.items():
        if node.WEIGHT == 0:
            continue
        if not 0 < node.WEIGHT < math.inf:
            raise ConfigError(f"OBJECTIVES.{name}.WEIGHT is at least 0, got {node.WEIGHT}")
        kind = OBJECTIVES.get(name.capitalize())
        if kind.needs_teacher and cfg.SOLVER.EMA.DECAY <= 0:
            raise ConfigError(
                f"OBJECTIVES.{name} learns from the moving average of the model; set "
                "SOLVER.EMA.DECAY, such as 0.999"
            )
        try:
            schedule = WeightSchedule(node.WEIGHT, node.SCHEDULE, node.START, node.END)
            built[name] = kind(schedule=schedule, **kind.from_config(cfg, model))
        except ValueError as error:
            raise ConfigError(f"OBJECTIVES.{name}: {error}") from error
    return built
