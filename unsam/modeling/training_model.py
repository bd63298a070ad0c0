"""A model with everything that its loss is made of: what the trainer runs and parallelises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fvcore.common.config import CfgNode
from torch import Tensor, nn

from unsam.errors import ConfigError
from unsam.modeling.objectives import Objective, WeightSchedule, build_objectives
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.segmentation_model import SegmentationModel
from unsam.modeling.training_context import TaskSampler, TrainingContext


class TrainingModel(nn.Module):
    """Encodes a micro-batch once and adds up the model's losses and those of its objectives.

    Args:
        model: what is trained.
        objectives: further terms, by name.
        loss_schedules: factors on losses of the model, by the name of the loss.
    """

    def __init__(
        self,
        model: SegmentationModel,
        objectives: Mapping[str, Objective] | None = None,
        loss_schedules: Mapping[str, WeightSchedule] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.objectives = nn.ModuleDict(dict(objectives or {}))
        self.loss_schedules = dict(loss_schedules or {})
        # In a tuple, so that its weights are not among the parameters that are trained and shared.
        self._teacher: tuple[SegmentationModel | None] = (None,)
        self.tasks: TaskSampler | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode, model: SegmentationModel) -> TrainingModel:
        """Build from ``OBJECTIVES`` and ``CRITERION.SCHEDULES``.

        Raises:
            ConfigError: an objective or a schedule that cannot be.
        """
        return cls(model, build_objectives(cfg, model), _loss_schedules(cfg.CRITERION.SCHEDULES))

    @property
    def teacher(self) -> SegmentationModel | None:
        """The moving average of the model, which objectives may compare with."""
        return self._teacher[0]

    def set_teacher(self, model: SegmentationModel | None) -> None:
        """Give the objectives a model to compare with; None takes it away."""
        self._teacher = (model,)

    def count_targets(self, batch: Sequence[dict[str, Any]]) -> int:
        """Return how many masks the model will be trained on in this micro-batch."""
        return self.model.count_targets(batch, SampleRandom.from_batch(batch), self.tasks)

    def forward(
        self, batch: Sequence[dict[str, Any]], num_masks: float, progress: float
    ) -> dict[str, Tensor]:
        """Return the weighted losses (``loss_*``) and the metrics of a micro-batch, as scalars.

        Args:
            batch: samples, each with its ``seed``.
            num_masks: see `TrainingContext`.
            progress: share of the training that is done, in [0, 1].

        Raises:
            ConfigError: a schedule names a loss that the model does not have.
        """
        context = TrainingContext(
            batch=batch,
            features=self.model.encode([sample["image"] for sample in batch]),
            num_masks=num_masks,
            random=SampleRandom.from_batch(batch),
            progress=progress,
            teacher=self.teacher,
            tasks=self.tasks,
        )
        losses = dict(self.model.losses(context))
        for name, schedule in self.loss_schedules.items():
            if name not in losses:
                known = ", ".join(key for key in losses if key.startswith("loss_"))
                raise ConfigError(f"CRITERION.SCHEDULES: no loss '{name}'; there are {known}")
            losses[name] = schedule(progress) * losses[name]
        for objective in self.objectives.values():
            assert isinstance(objective, Objective)
            weight = objective.schedule(progress)
            # Weights depend on progress alone, so all ranks leave out the same terms.
            terms = objective(self.model, context) if weight > 0 else {}
            for name, value in terms.items():
                losses[name] = weight * value if name.startswith("loss_") else value
        # One that is off has gradients too, as processes that exchange them expect.
        add_zeros(losses, self.objectives.parameters())
        return losses


def add_zeros(losses: dict[str, Tensor], tensors: Iterable[Tensor]) -> None:
    """Make the losses a function of further tensors, without a change of their values."""
    name = next(name for name in losses if name.startswith("loss_"))
    for tensor in tensors:
        losses[name] = losses[name] + 0.0 * tensor.sum()


def _loss_schedules(entries: Sequence[Sequence[Any]]) -> dict[str, WeightSchedule]:
    schedules = {}
    for entry in entries:
        try:
            name, kind, start, end = entry
            schedules[str(name)] = WeightSchedule(1.0, str(kind), float(start), float(end))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"CRITERION.SCHEDULES: an entry is [loss, kind, start, end], got {entry} ({error})"
            ) from error
    return schedules
