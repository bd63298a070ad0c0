"""Prompts of many masks of one or several photos, in the pixels of the model's input."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

PADDING, NEGATIVE, POSITIVE, BOX_FIRST, BOX_LAST = -1, 0, 1, 2, 3
"""Point labels. A box is two points: its corner of least x and y, and its opposite corner."""


@dataclass(frozen=True)
class Prompts:
    """P prompts, one mask each.

    Attributes:
        points: float ``[P, K, 2]``, x and y in pixels of the model's input, where pixel i covers
            [i, i + 1); a box's corners come before the clicks.
        labels: int64 ``[P, K]``, one of the labels of this module; padding has no effect.
        granularity: float32 ``[P]`` in [0.1, 1]; None leaves it to the model.
        image_of_prompt: int64 ``[P]``, the photo of the batch that each prompt is about.
        mask_logits: float ``[P, h, w]``, the logits of an earlier answer at the decoder's own
            resolution, or None when no prompt has one.
    """

    points: Tensor
    labels: Tensor
    granularity: Tensor | None
    image_of_prompt: Tensor
    mask_logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image_of_prompt)


def spread(x: Tensor, image_of_prompt: Tensor) -> Tensor:
    """Return per-photo data ``[B, ...]`` per prompt, ``[P, ...]``; of one photo, without a copy."""
    if len(x) == 1:
        return x.expand(len(image_of_prompt), *x.shape[1:])
    return x.index_select(0, image_of_prompt)
