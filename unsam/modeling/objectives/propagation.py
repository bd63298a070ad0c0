"""The teacher's confident masks on one view are prompts and targets on the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.automatic_masks import crop_to_input, suppress
from unsam.modeling.granularity_encoding import MAX_GRANULARITY, MIN_GRANULARITY
from unsam.modeling.interactive import choose_masks, first_prompts
from unsam.modeling.losses import dice_loss
from unsam.modeling.objectives.objective import OBJECTIVES
from unsam.modeling.objectives.second_view import SecondViewAugmentation, ViewTransform
from unsam.modeling.objectives.two_view_objective import (
    TwoViewObjective,
    counts_of,
    mean_over_photos,
    promptable,
)
from unsam.modeling.objectives.weight_schedule import WeightSchedule
from unsam.modeling.promptable import PromptableModel
from unsam.modeling.prompts import POSITIVE, Prompts
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.segmentation_model import SegmentationModel
from unsam.modeling.training_context import TrainingContext


@dataclass(frozen=True)
class _PseudoMasks:
    """P masks: logits ``[P, h, w]``, granularity ``[P]``, photo of the batch ``[P]``."""

    logits: Tensor
    granularity: Tensor
    photo: Tensor


@OBJECTIVES.register()
class Propagation(TwoViewObjective):
    """Pseudo masks and pseudo prompts from view to view, as FixMatch does with classes.

    The moving average of the student answers a grid of clicks on the photo as it is, each at a
    granularity drawn for it. Of its answers those count that it says are good, that are stable,
    and that do not repeat another. They are brought to the second view, where a click in each, or
    its box, asks the student for the same granularity. The student, which sees the harder view,
    learns the answer as if it were true (Sohn et al. 2020).

    Args:
        schedule: its weight over the training.
        views: how the second view differs from the first.
        points_per_side: the clicks form a regular grid of so many columns and rows.
        quality_threshold: least predicted IoU of an answer.
        stability_threshold: least IoU between the masks at logits above and below zero by
            `stability_offset`.
        stability_offset: see `stability_threshold`.
        nms_threshold: of two answers with a larger IoU the one of less quality goes.
        masks_per_image: the most answers of a photo, drawn evenly over granularities.
        centre_probability: chance that a click is at the centre of a mask, not anywhere in it.
        box_probability: chance that the prompt is the box of the mask, up to a tenth off.

    Raises:
        ValueError: no points, fewer than one mask per photo, or a share out of [0, 1].
    """

    def __init__(
        self,
        *,
        schedule: WeightSchedule,
        views: SecondViewAugmentation,
        points_per_side: int = 6,
        quality_threshold: float = 0.7,
        stability_threshold: float = 0.8,
        stability_offset: float = 1.0,
        nms_threshold: float = 0.8,
        masks_per_image: int = 8,
        centre_probability: float = 0.3,
        box_probability: float = 0.3,
    ) -> None:
        super().__init__(
            schedule=schedule,
            views=views,
            masks_per_image=masks_per_image,
            centre_probability=centre_probability,
        )
        if points_per_side < 1:
            raise ValueError(f"POINTS_PER_SIDE is at least 1, got {points_per_side}")
        if not (0 <= stability_threshold <= 1 and 0 <= box_probability <= 1):
            raise ValueError(
                "STABILITY_THRESHOLD and BOX_PROBABILITY are in [0, 1], got "
                f"{stability_threshold} and {box_probability}"
            )
        self.points_per_side = points_per_side
        self.quality_threshold = quality_threshold
        self.stability_threshold = stability_threshold
        self.stability_offset = stability_offset
        self.nms_threshold = nms_threshold
        self.box_probability = box_probability

    @classmethod
    def from_config(cls, cfg: CfgNode, model: SegmentationModel) -> dict[str, Any]:
        """Translate ``OBJECTIVES.PROPAGATION`` into the constructor's arguments.

        What makes two answers alike, and how far logits are moved to see whether an answer is
        stable, is as in ``INFERENCE``.

        Raises:
            ConfigError: the model answers no prompts.
        """
        node = cfg.OBJECTIVES.PROPAGATION
        return super().from_config(cfg, model) | {
            "points_per_side": node.POINTS_PER_SIDE,
            "quality_threshold": node.QUALITY_THRESHOLD,
            "stability_threshold": node.STABILITY_THRESHOLD,
            "stability_offset": cfg.INFERENCE.STABILITY_OFFSET,
            "nms_threshold": cfg.INFERENCE.NMS_THRESHOLD,
            "box_probability": node.BOX_PROBABILITY,
        }

    def forward(self, model: SegmentationModel, context: TrainingContext) -> dict[str, Tensor]:
        """Return ``loss_propagation`` and the metric ``propagation_masks``.

        The loss is the dice loss and the binary cross entropy of the student's answers, a mean
        over the pseudo masks of a photo, then over photos. The metric is the number of pseudo
        masks per photo.
        """
        student, teacher = promptable(model), promptable(context.teacher)
        stride, num_photos = student.mask_stride, len(context.batch)
        random = context.random.fork("propagation")
        images = [sample["image"] for sample in context.batch]
        view = self.draw_view(context, random, student.device)
        with torch.no_grad():
            found = self._confident_masks(teacher, images, random)
            found, targets, seen = _carried(found, view.transform, stride)
        # With or without a pseudo mask: where layers are shared out over processes, all of them
        # have to take part in each pass.
        second = student.encode(view.images(images))
        loss = 0.0 * student.patch_embeddings(second).to(torch.float32).mean()
        count = torch.tensor(len(targets) / num_photos, device=student.device)
        if len(targets) == 0:
            return {"loss_propagation": loss, "propagation_masks": count}
        # In units of cells, which is what the targets are known at.
        points, labels, _ = first_prompts(
            targets,
            targets.to(torch.float32),
            1,
            self.centre_probability,
            self.box_probability,
            random,
            counts_of(found.photo, num_photos),
        )
        prompts = Prompts(points * stride, labels, found.granularity, found.photo)
        answer, _ = student.decode(second, prompts)
        errors = pseudo_mask_loss(answer.flatten(1), targets.flatten(1), seen.flatten(1))
        loss = loss + mean_over_photos(errors, found.photo, num_photos)
        return {"loss_propagation": loss, "propagation_masks": count}

    def _confident_masks(
        self, teacher: PromptableModel, images: list[Tensor], random: SampleRandom
    ) -> _PseudoMasks:
        """Return what the teacher is sure of on the first view."""
        features = teacher.encode(images)
        asked = random.uniform([self.points_per_side**2] * len(images))
        asked = MIN_GRANULARITY + (MAX_GRANULARITY - MIN_GRANULARITY) * asked.to(teacher.device)
        found = []
        # One photo at a time: a grid of prompts on a large photo takes much memory.
        for photo, granularity in enumerate(asked.chunk(len(images))):
            size = (images[photo].shape[-2], images[photo].shape[-1])
            logits, quality = teacher.decode(features, self._grid(photo, size, granularity))
            kept = self._survivors(crop_to_input(logits, teacher.mask_stride, size), quality)
            generator = random.generator(photo)
            drawn = choose_masks(granularity[kept], self.masks_per_image, "balanced", generator)
            kept = kept[drawn.to(kept.device)]
            found.append((logits[kept], granularity[kept], torch.full_like(kept, photo)))
        logits, granularity, photos = (torch.cat(parts) for parts in zip(*found, strict=True))
        return _PseudoMasks(logits, granularity, photos)

    def _grid(self, photo: int, size: tuple[int, int], granularity: Tensor) -> Prompts:
        """Return a grid of clicks on one photo of ``(h, w)``."""
        n, device = self.points_per_side, granularity.device
        (h, w), steps = size, (torch.arange(n, device=device) + 0.5) / n
        y, x = torch.meshgrid(steps * h, steps * w, indexing="ij")
        return Prompts(
            points=torch.stack((x, y), dim=-1).view(-1, 1, 2),
            labels=torch.full((n * n, 1), POSITIVE, device=device),
            granularity=granularity,
            image_of_prompt=torch.full((n * n,), photo, device=device),
        )

    def _survivors(self, logits: Tensor, quality: Tensor) -> Tensor:
        """Return the indices of the answers that count, the best first."""
        flat = logits.flatten(1)
        sure = (flat > self.stability_offset).sum(1)
        maybe = (flat > -self.stability_offset).sum(1)
        passes = (quality >= self.quality_threshold) & (flat > 0).any(1)
        passes &= sure >= self.stability_threshold * maybe
        order = quality.argsort(descending=True, stable=True)
        order = order[passes[order]]
        return order[suppress(logits[order] > 0, self.nms_threshold, len(order))]


def pseudo_mask_loss(logits: Tensor, targets: Tensor, inside: Tensor) -> Tensor:
    """Return the dice loss plus the mean binary cross entropy of each answer.

    Args:
        logits: float ``[P, N]``.
        targets: bool ``[P, N]``.
        inside: bool ``[P, N]``, the cells that count.

    Returns:
        ``[P]``, in the type of the logits.
    """
    truth = targets.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * inside
    mean = entropy.sum(1) / inside.sum(1).clamp(min=1)
    return mean + dice_loss(logits, truth, inside)


def _carried(
    found: _PseudoMasks, transform: ViewTransform, stride: int
) -> tuple[_PseudoMasks, Tensor, Tensor]:
    """Bring pseudo masks to the second view and drop those that it does not see.

    Returns:
        What is left of `found`, as masks bool ``[P, h, w]``, and where both views see the photo,
        bool ``[P, h, w]``.
    """
    warped, seen = transform.warp(found.logits, found.photo, stride)
    masks = (warped > 0) & seen
    kept = masks.flatten(1).any(1)
    left = _PseudoMasks(found.logits[kept], found.granularity[kept], found.photo[kept])
    return left, masks[kept], seen[kept]
