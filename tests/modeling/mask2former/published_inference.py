"""Whole-image inference the published way: every mask at the photo's size, then the choice."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from unsam.modeling import InputFrame


def grown_logits(logits: Tensor, frame: InputFrame) -> Tensor:
    """Return logits ``[N, h, w]`` at stride 4 at the photo's size, ``[N, H, W]``."""
    grown = F.interpolate(logits[None], frame.padded_size, mode="bilinear", align_corners=False)
    height, width = frame.input_size
    grown = grown[:, :, :height, :width]
    return F.interpolate(grown, frame.photo_size, mode="bilinear", align_corners=False)[0]


def published_instances(
    class_logits: Tensor, logits: Tensor, frame: InputFrame, max_masks: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the queries ``[K]`` with the best scores first, their scores, and masks ``[K, H, W]``.

    Args:
        class_logits: ``[Q, 2]``.
        logits: ``[Q, h, w]``.
        frame: where the photo lies in the input.
        max_masks: K.
    """
    grown = grown_logits(logits, frame)
    probability, chosen = class_logits.softmax(-1)[:, 0].topk(max_masks, sorted=False)
    inside = grown[chosen] > 0
    area = inside.flatten(1).sum(1).to(grown.dtype)
    mean = (grown[chosen].sigmoid() * inside).flatten(1).sum(1) / (area + 1e-6)
    order = (probability * mean).argsort(descending=True)
    return chosen[order], (probability * mean)[order], inside[order]
