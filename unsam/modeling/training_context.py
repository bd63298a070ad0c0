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

    def mask_weights(self, granularity: Tensor) -> Tensor | None:
        """Return factors ``[M]`` on the chances of masks of these granularities ``[M]``.

        None leaves the chances as configured.
        """

    def prompt_weights(self) -> Tensor | None:
        """Return a factor on the chance of each `unsam.modeling.interactive.PromptKind`.

        None leaves the chances as configured.
        """

    def record(
        self, photos: Tensor, granularity: Tensor, prompt_kinds: Tensor, errors: Tensor
    ) -> None:
        """Note how wrong the model was about P masks.

        Args:
            photos: ``[P]``, the ``photo`` of the mask's sample: its number in the training set.
            granularity: ``[P]`` in [0.1, 1].
            prompt_kinds: ``[P]``, the `unsam.modeling.interactive.PromptKind` of the first prompt.
            errors: ``[P]`` in [0, 1], one minus the IoU after the first prompt.
        """


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
