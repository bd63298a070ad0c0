"""What the losses of one micro-batch are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from unsam.modeling.sample_random import SampleRandom

if TYPE_CHECKING:
    from unsam.modeling.segmentation_model import SegmentationModel


class TaskSampler(Protocol):
    """Draws harder tasks more often (ATS); see `unsam.data.task_sampler`."""

    def mask_weights(self, granularity: Tensor) -> Tensor:
        """Return the relative chance ``[M]`` of masks of these granularities ``[M]``."""

    def prompt_weights(self) -> Tensor:
        """Return the relative chance of each prompt kind, a factor on its configured chance."""

    def record(
        self, photos: Tensor, granularity: Tensor, prompt_kinds: Tensor, errors: Tensor
    ) -> None:
        """Note how wrong the model was, ``[P]`` each: photo, granularity, kind, 1 - IoU."""


@dataclass(frozen=True)
class TrainingContext:
    """One micro-batch on its way to the losses.

    Attributes:
        batch: samples as the data loader gives them, see `SegmentationModel.forward`.
        features: what ``model.encode`` returned for the photos of the batch.
        num_masks: what sums over masks are divided by: the masks of the whole optimizer step, over
            all ranks and micro-batches, per micro-batch. The mean of the micro-batches' losses is
            then a mean over all masks of the step, however they were dealt out.
        random: the samples' own random numbers; take a `fork` of your own.
        progress: share of the training that is done, in [0, 1].
        teacher: the moving average of the model, in evaluation mode; None where none is kept.
        tasks: draws harder tasks more often; None draws as configured.
    """

    batch: Sequence[dict[str, Any]]
    features: Any
    num_masks: float
    random: SampleRandom
    progress: float = 0.0
    teacher: SegmentationModel | None = None
    tasks: TaskSampler | None = None
