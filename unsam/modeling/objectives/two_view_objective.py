"""What the objectives share that compare the student on one view with the teacher on another."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from unsam.errors import ConfigError
from unsam.modeling.objectives.objective import Objective
from unsam.modeling.objectives.second_view import SecondView, SecondViewAugmentation
from unsam.modeling.objectives.weight_schedule import WeightSchedule
from unsam.modeling.promptable import PromptableModel
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.segmentation_model import SegmentationModel
from unsam.modeling.training_context import TrainingContext


class TwoViewObjective(Objective):
    """Base of objectives in which student and teacher answer prompts on two views of a photo.

    Args:
        schedule: its weight over the training.
        views: how the second view differs from the first, which is the batch as it is.
        masks_per_image: the most masks of a photo.
        centre_probability: chance that a click is at the centre of a mask, not anywhere in it.

    Raises:
        ValueError: fewer than one mask per photo.
    """

    needs_teacher = True

    def __init__(
        self,
        *,
        schedule: WeightSchedule,
        views: SecondViewAugmentation,
        masks_per_image: int,
        centre_probability: float,
    ) -> None:
        super().__init__(schedule=schedule)
        if masks_per_image < 1:
            raise ValueError(f"MASKS_PER_IMAGE is at least 1, got {masks_per_image}")
        self.views = views
        self.masks_per_image = masks_per_image
        self.centre_probability = centre_probability

    @classmethod
    def from_config(cls, cfg: CfgNode, model: SegmentationModel) -> dict[str, Any]:
        """Translate the config into the arguments of this constructor, but for `schedule`.

        Raises:
            ConfigError: the model answers no prompts.
        """
        if not isinstance(model, PromptableModel):
            raise ConfigError(
                f"{type(model).__name__} answers no prompts; set the WEIGHT to 0 or take another "
                "MODEL.META_ARCHITECTURE"
            )
        return {
            "views": SecondViewAugmentation(**SecondViewAugmentation.from_config(cfg)),
            "masks_per_image": cfg.OBJECTIVES[cls.__name__.upper()].MASKS_PER_IMAGE,
            "centre_probability": cfg.MODEL.CLICKS.CENTRE_PROBABILITY,
        }

    def draw_view(
        self, context: TrainingContext, random: SampleRandom, device: torch.device
    ) -> SecondView:
        """Draw the second view of the photos of a micro-batch."""
        sizes = [tuple(sample["image"].shape[-2:]) for sample in context.batch]
        return self.views.draw(sizes, random, device)


def counts_of(photo_of_mask: Tensor, num_photos: int) -> list[int]:
    """Return how many masks each photo has; `photo_of_mask` is int64 ``[P]``."""
    return torch.bincount(photo_of_mask, minlength=num_photos).tolist()


def mean_over_photos(values: Tensor, photo_of_mask: Tensor, num_photos: int) -> Tensor:
    """Return the mean over photos of the means over their masks; a photo without one is zero.

    Args:
        values: ``[P]``, one per mask.
        photo_of_mask: int64 ``[P]``.
        num_photos: of the micro-batch.
    """
    counts = torch.bincount(photo_of_mask, minlength=num_photos)
    return (values / counts[photo_of_mask]).sum() / num_photos


def promptable(model: SegmentationModel | None) -> PromptableModel:
    """Return the student or the teacher as what `TwoViewObjective.from_config` asks for."""
    assert isinstance(model, PromptableModel), "objectives on two views need prompts and a teacher"
    return model
