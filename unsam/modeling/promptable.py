"""What every model that answers prompts promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unsam.modeling.automatic_masks import AutomaticMasks, crop_to_input, upsample
from unsam.modeling.levels import granularity_of_answers
from unsam.modeling.prompts import Prompts
from unsam.modeling.segmentation_model import InputFrame, SegmentationModel
from unsam.structures import MaskSet


class PromptableModel(SegmentationModel):
    """Base of the models that answer points, boxes and masks.

    A model implements `decode_all`, or `decode`, or both: a model that knows granularity answers a
    prompt with the one mask of that granularity; one that does not gives several masks per prompt,
    of which `decode` then picks the one whose level is nearest.

    Args:
        automatic: how whole photos are segmented.
        pixel_mean: RGB mean, 0 to 255.
        pixel_std: RGB standard deviation, 0 to 255.

    Attributes:
        mask_stride: input pixels per cell of the mask logits.
        needs_granularity: whether it answers only at a granularity.
        takes_masks: whether it reads an earlier answer as a prompt.
        max_points: the most points of a prompt (a box counts as two), None for no limit.
    """

    needs_granularity: ClassVar[bool] = False
    takes_masks: ClassVar[bool] = True
    max_points: ClassVar[int | None] = None
    mask_stride: int

    def __init__(
        self,
        *,
        automatic: AutomaticMasks,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.automatic = automatic

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
        return choose_answer(logits, quality, prompts.granularity)

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


def choose_answer(
    logits: Tensor, quality: Tensor, granularity: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Choose one of the M answers to each prompt: of the nearest granularity, or the best.

    Args:
        logits: float ``[P, M, h, w]``.
        quality: float ``[P, M]``.
        granularity: float ``[P]``; None for the answer of the highest quality.

    Returns:
        Logits ``[P, h, w]`` and quality ``[P]``.
    """
    if granularity is None:
        chosen = quality.argmax(1)
    else:
        chosen = (granularity_of_answers(logits) - granularity[:, None]).abs().argmin(1)
    rows = torch.arange(len(chosen), device=chosen.device)
    return logits[rows, chosen], quality[rows, chosen]
