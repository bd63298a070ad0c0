"""Hierarchy consistency: a click's mask at a finer granularity lies within the coarser one."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from unsam.errors import ConfigError
from unsam.modeling.granularity_encoding import MAX_GRANULARITY, MIN_GRANULARITY
from unsam.modeling.objectives.objective import OBJECTIVES, Objective
from unsam.modeling.objectives.weight_schedule import WeightSchedule
from unsam.modeling.promptable import PromptableModel
from unsam.modeling.prompts import POSITIVE, Prompts
from unsam.modeling.segmentation_model import SegmentationModel
from unsam.modeling.training_context import TrainingContext


@OBJECTIVES.register()
class Nesting(Objective):
    """Asks about random clicks at two granularities and penalises what leaves the coarser mask.

    It needs no masks: clicks are uniform over the photo. See `nesting_penalty`.

    Args:
        schedule: the weight.
        clicks_per_image: clicks on each photo.
        min_step: least difference of the two granularities.

    Raises:
        ValueError: no clicks, or a step that does not fit in [0.1, 1].
    """

    def __init__(self, *, schedule: WeightSchedule, clicks_per_image: int, min_step: float) -> None:
        super().__init__(schedule=schedule)
        widest = MAX_GRANULARITY - MIN_GRANULARITY
        if clicks_per_image < 1 or not 0 < min_step <= widest:
            raise ValueError(
                "MASKS_PER_IMAGE is at least 1 and MIN_STEP over 0 and at most "
                f"{widest}, got {clicks_per_image} and {min_step}"
            )
        self.clicks_per_image = clicks_per_image
        self.min_step = min_step

    @classmethod
    def from_config(cls, cfg: CfgNode, model: SegmentationModel) -> dict[str, Any]:
        """Translate ``OBJECTIVES.NESTING`` into the constructor's arguments.

        Raises:
            ConfigError: the model does not answer prompts at a granularity.
        """
        if not (isinstance(model, PromptableModel) and model.is_granular):
            raise ConfigError(
                f"OBJECTIVES.NESTING: this {type(model).__name__} does not answer clicks at a "
                "granularity; set its WEIGHT to 0, or MODEL.GRANULARITY.ENABLED of Sam and Sam2"
            )
        node = cfg.OBJECTIVES.NESTING
        return {"clicks_per_image": node.MASKS_PER_IMAGE, "min_step": node.MIN_STEP}

    def forward(self, model: SegmentationModel, context: TrainingContext) -> dict[str, Tensor]:
        """Return ``loss_nesting`` and the metric ``nesting_violation``, means over all clicks."""
        assert isinstance(model, PromptableModel)
        sizes = [tuple(sample["image"].shape[-2:]) for sample in context.batch]
        counts = [self.clicks_per_image] * len(sizes)
        drawn = context.random.fork("nesting").uniform(counts, 4).to(model.device)
        owner = torch.arange(len(sizes), device=model.device)
        owner = owner.repeat_interleave(self.clicks_per_image)
        width_height = torch.tensor([size[::-1] for size in sizes], device=model.device)[owner]
        points = (drawn[:, None, :2] * width_height[:, None]).repeat(2, 1, 1)
        labels = torch.full((len(points), 1), POSITIVE, device=model.device)
        granularity = torch.cat(granularity_pairs(drawn[:, 2], drawn[:, 3], self.min_step))
        prompts = Prompts(points, labels, granularity, owner.repeat(2))
        logits, _ = model.decode(context.features, prompts)
        inside = _inside(sizes, model.mask_stride, logits)[owner]
        fine, coarse = logits.chunk(2)
        violation = nesting_violation((fine > 0) & inside, (coarse > 0) & inside)
        penalty = nesting_penalty(fine.sigmoid() * inside, coarse.sigmoid())
        return {"loss_nesting": penalty.mean(), "nesting_violation": violation.mean()}


def granularity_pairs(first: Tensor, second: Tensor, min_step: float) -> tuple[Tensor, Tensor]:
    """Return the finer and the coarser granularity of each pair, ``[P]``, in [0.1, 1].

    Args:
        first: ``[P]`` in [0, 1), places the finer: evenly over what leaves room for the step.
        second: ``[P]`` in [0, 1), places the coarser: evenly over what the finer leaves.
        min_step: least difference.
    """
    fine = MIN_GRANULARITY + first * (MAX_GRANULARITY - min_step - MIN_GRANULARITY)
    return fine, fine + min_step + second * (MAX_GRANULARITY - min_step - fine)


def nesting_penalty(fine: Tensor, coarse: Tensor) -> Tensor:
    """Return how much of each finer mask lies outside the coarser one, in [0, 1].

    ``sum max(0, fine - coarse) / sum fine`` over the pixels: zero if and only if the masks at
    every threshold are nested. The divisor takes no gradient, since growing the finer mask
    elsewhere would be no answer.

    Args:
        fine: probabilities ``[P, h, w]``, zero where nothing counts.
        coarse: probabilities ``[P, h, w]``.

    Returns:
        ``[P]``.
    """
    outside = (fine - coarse).clamp(min=0).sum((1, 2))
    return outside / fine.detach().sum((1, 2)).clamp(min=1e-6)


def nesting_violation(fine: Tensor, coarse: Tensor) -> Tensor:
    """Return the share of each finer mask's area that lies outside the coarser one.

    Args:
        fine: bool ``[P, h, w]``.
        coarse: bool ``[P, h, w]``, for the same clicks.

    Returns:
        float32 ``[P]`` in [0, 1]; 0 for an empty finer mask.
    """
    area = fine.sum((1, 2)).clamp(min=1)
    return (fine & ~coarse).sum((1, 2)).to(torch.float32) / area


def _inside(sizes: list[tuple[int, ...]], stride: int, logits: Tensor) -> Tensor:
    """Return which cells ``[B, h, w]`` of the masks have a pixel of the photo."""
    rows = torch.arange(logits.shape[1], device=logits.device) * stride
    columns = torch.arange(logits.shape[2], device=logits.device) * stride
    limits = torch.tensor(sizes, device=logits.device)
    return (rows < limits[:, :1])[:, :, None] & (columns < limits[:, 1:])[:, None]
