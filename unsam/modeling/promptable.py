"""Models that answer prompts: what they promise, and how they are trained by simulated clicks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.automatic_masks import AutomaticMasks, crop_to_input, upsample
from unsam.modeling.criterion import MaskCriterion, mask_iou, mean_mask_count
from unsam.modeling.interactive import (
    TrainingClicks,
    choose_masks,
    correction_clicks,
    first_prompts,
)
from unsam.modeling.levels import granularity_of_answers
from unsam.modeling.prompts import Prompts
from unsam.modeling.segmentation_model import InputFrame, SegmentationModel
from unsam.structures import MaskSet


@dataclass(frozen=True)
class _Targets:
    """The chosen masks of a batch, P in all, at full and at the decoder's resolution."""

    masks: Tensor
    cells: Tensor
    inside: Tensor
    granularity: Tensor
    image_of_mask: Tensor


class PromptableModel(SegmentationModel):
    """Base of the models that answer points, boxes and masks.

    A model implements `decode_all`, or `decode`, or both: a model that knows granularity answers a
    prompt with the one mask of that granularity; one that does not gives several masks per prompt,
    of which `decode` then picks the one whose level is nearest.

    Args:
        automatic: how whole photos are segmented.
        criterion: the losses of training by clicks.
        clicks: the simulated user of training.
        pixel_mean: RGB mean, 0 to 255.
        pixel_std: RGB standard deviation, 0 to 255.

    Attributes:
        mask_stride: input pixels per cell of the mask logits.
        is_granular: whether the model was made to be asked for a granularity.
        needs_granularity: whether it answers only then.
        takes_masks: whether it reads an earlier answer as a prompt.
        max_points: the most points of a prompt (a box counts as two), None for no limit.
    """

    is_granular: bool = True
    needs_granularity: ClassVar[bool] = False
    takes_masks: ClassVar[bool] = True
    max_points: ClassVar[int | None] = None
    mask_stride: int

    def __init__(
        self,
        *,
        automatic: AutomaticMasks,
        criterion: MaskCriterion,
        clicks: TrainingClicks,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.automatic = automatic
        self.criterion = criterion
        self.clicks = clicks

    def place(self, points: np.ndarray, is_corner: np.ndarray, frame: InputFrame) -> np.ndarray:
        """Bring points from the photo into the input.

        Args:
            points: float ``[..., 2]``, x and y in pixels of the photo. A click counts from the
                centre of the first pixel, a box's corner from its outer edge.
            is_corner: bool ``[...]``, whether a point is the corner of a box.
            frame: where the photo lies.

        Returns:
            float32 ``[..., 2]``, as in `Prompts.points`.
        """
        (H, W), (h, w) = frame.photo_size, frame.input_size
        from_edge = points + np.where(is_corner, 0.0, 0.5)[..., None]
        return (from_edge * np.array([w / W, h / H])).astype(np.float32)

    def decode(self, features: Any, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer P prompts with one mask each.

        Args:
            features: what `encode` returned for B photos.
            prompts: P prompts about them. Without granularity the model's single best answer.

        Returns:
            Mask logits float32 ``[P, h, w]``, over 0 in the mask, `mask_stride` pixels of the
            padded input per cell; predicted IoU float32 ``[P]``.
        """
        logits, quality = self.decode_all(features, replace(prompts, granularity=None))
        if prompts.granularity is None:
            chosen = quality.argmax(1)
        else:
            levels = granularity_of_answers(logits)
            chosen = (levels - prompts.granularity[:, None]).abs().argmin(1)
        rows = torch.arange(len(chosen), device=chosen.device)
        return logits[rows, chosen], quality[rows, chosen]

    def decode_all(self, features: Any, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Answer P prompts without granularity, with the M masks that the model has for each.

        Returns:
            Mask logits float32 ``[P, M, h, w]`` and predicted IoU float32 ``[P, M]``.

        Raises:
            ValueError: the model answers only with a granularity.
        """
        name = type(self).__name__
        raise ValueError(f"{name} has one answer per granularity; name granularities")

    def grow(self, logits: Tensor, frame: InputFrame) -> Tensor:
        """Bring logits ``[N, h, w]`` to the pixels of the photo, float32 ``[N, H, W]``."""
        cropped = crop_to_input(logits, self.mask_stride, frame.input_size)
        return upsample(cropped, self.mask_stride, frame.input_size, frame.photo_size)

    def mask_size(self, frame: InputFrame) -> tuple[int, int]:
        """Return ``(h, w)`` of the logits, which is what a mask prompt must have."""
        height, width = frame.padded_size
        return height // self.mask_stride, width // self.mask_stride

    def segment(
        self, features: Any, frame: InputFrame, granularities: Sequence[float] | None = None
    ) -> MaskSet:
        """Segment one encoded photo by a grid of clicks, see `AutomaticMasks`."""
        return self.automatic(self, features, frame, granularities)

    def losses(self, batch: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Train by clicks: a first prompt, then corrections where the answer is wrong.

        Returns:
            Scalars: ``loss_focal``, ``loss_dice``, ``loss_quality`` (weighted, means over the
            rounds of clicks), and without gradient ``iou_first`` and ``iou_last``, the mean IoU
            after the first and after the last prompt.
        """
        images = self.encode([sample["image"] for sample in batch])
        # Zero, but a function of every parameter: a batch without masks, or a recipe without
        # mask prompts, still gives all processes the same gradients to exchange.
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        anchor = 0.0 * torch.stack([parameter.sum() for parameter in trained]).sum()
        targets = self._choose_targets(batch)
        num_masks = mean_mask_count(len(targets.granularity), anchor.device)
        losses = dict.fromkeys(("loss_focal", "loss_dice", "loss_quality"), anchor)
        if len(targets.granularity) == 0:
            return losses | {"iou_first": anchor.detach(), "iou_last": anchor.detach()}
        ious = []
        points, labels = first_prompts(
            targets.masks,
            targets.cells,
            self.mask_stride,
            self.clicks.centre_probability,
            self.clicks.box_probability,
        )
        logits: Tensor | None = None
        for _ in range(self.clicks.rounds):
            if logits is not None:
                point, label = correction_clicks(
                    logits, targets.cells, targets.inside, self.mask_stride
                )
                points, labels = torch.cat((points, point), 1), torch.cat((labels, label), 1)
            prompts = Prompts(points, labels, targets.granularity, targets.image_of_mask, logits)
            answer, quality = self.decode(images, prompts)
            terms = self.criterion(answer, quality, targets.cells, targets.inside, num_masks)
            losses = {name: losses[name] + terms[name] / self.clicks.rounds for name in losses}
            logits = answer.detach()
            ious.append(_mean_iou(logits, targets))
        return losses | {"iou_first": ious[0], "iou_last": ious[-1]}

    def _choose_targets(self, batch: Sequence[dict[str, Any]]) -> _Targets:
        """Choose the masks of this iteration and bring them to the padded size of the batch."""
        device = self.device
        height, width = self.padded_size([tuple(sample["image"].shape[-2:]) for sample in batch])
        stride = self.mask_stride
        masks, granularity, owners, inside = [], [], [], []
        for index, sample in enumerate(batch):
            usable = sample["masks"].flatten(1).any(1).nonzero()[:, 0]
            chosen = usable[
                choose_masks(
                    sample["granularity"][usable],
                    self.clicks.masks_per_image,
                    self.clicks.mask_sampling,
                ).to(usable.device)
            ]
            h, w = sample["image"].shape[-2:]
            masks.append(F.pad(sample["masks"][chosen], (0, width - w, 0, height - h)))
            granularity.append(sample["granularity"][chosen])
            owners.append(torch.full((len(chosen),), index))
            valid = torch.zeros((height // stride, width // stride), dtype=torch.bool)
            valid[: -(-h // stride), : -(-w // stride)] = True
            inside.append(valid.expand(len(chosen), -1, -1))
        full = torch.cat(masks).to(device)
        cells = F.avg_pool2d(full[:, None].to(torch.float32), stride)[:, 0]
        return _Targets(
            masks=full,
            cells=cells,
            inside=torch.cat(inside).to(device),
            granularity=torch.cat(granularity).to(device, torch.float32),
            image_of_mask=torch.cat(owners).to(device),
        )


def _mean_iou(logits: Tensor, targets: _Targets) -> Tensor:
    """Return the mean IoU of predicted with true masks, a scalar without gradient."""
    predicted, truth = (logits > 0).flatten(1), (targets.cells > 0.5).flatten(1)
    return mask_iou(predicted, truth, targets.inside.flatten(1)).mean()
