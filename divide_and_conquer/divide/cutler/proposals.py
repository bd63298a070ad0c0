"""The region proposal network: boxes that may hold an object.

Source: Faster R-CNN (Ren et al. 2015, arXiv 1506.01497, section 3.1), one set of anchors per level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms

from divide_and_conquer.divide.cutler.backbone import STRIDES
from divide_and_conquer.divide.cutler.boxes import apply_deltas, clip, has_area

ANCHOR_SIDES = (32.0, 64.0, 128.0, 256.0, 512.0)
ASPECT_RATIOS = (0.5, 1.0, 2.0)
MAX_PROPOSALS = 1000
NMS_IOU = 0.65
_BOX_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


def level_anchors(
    side: float, stride: int, size: tuple[int, int], device: torch.device | str = "cpu"
) -> Tensor:
    """Return the anchors of one level, ``float32 [h * w * 3, 4]``, row by row, ratios innermost.

    Args:
        side: of the square anchor, in pixels; the others have its area.
        stride: pixels per cell; the anchors of a cell are centred on its upper left corner.
        size: ``(h, w)`` cells.
        device: where they are made.
    """
    ratio = torch.tensor(ASPECT_RATIOS, dtype=torch.float64, device=device)
    width = side / ratio.sqrt()
    half = 0.5 * torch.stack([width, width * ratio], dim=1)
    shapes = torch.cat([-half, half], dim=1).float()
    y, x = torch.meshgrid(
        torch.arange(size[0], dtype=torch.float32, device=device) * stride,
        torch.arange(size[1], dtype=torch.float32, device=device) * stride,
        indexing="ij",
    )
    corner = torch.stack([x, y, x, y], dim=-1)
    return (corner[:, :, None] + shapes).reshape(-1, 4)


class RpnHead(nn.Module):
    """One 3x3 convolution that all levels share, then objectness and box deltas per anchor."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        count = len(ASPECT_RATIOS)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(channels, count, 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * count, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``float [B, h * w * 3]`` and deltas ``float [B, h * w * 3, 4]``.

        Args:
            features: one level ``float [B, 256, h, w]``.
        """
        hidden = self.conv(features).relu_()
        logits = self.objectness_logits(hidden).permute(0, 2, 3, 1).flatten(1)
        deltas = self.anchor_deltas(hidden).permute(0, 2, 3, 1)
        return logits, deltas.reshape(len(features), -1, 4)


class ProposalGenerator(nn.Module):
    """The best boxes of all pyramid levels."""

    def __init__(self) -> None:
        super().__init__()
        self.rpn_head = RpnHead()

    def forward(
        self, levels: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return for each photo its proposals, best first.

        Args:
            levels: p2 to p6, ``float [B, 256, h, w]``.
            sizes: ``(H, W)`` of each resized photo, without padding.

        Returns:
            Per photo boxes ``float32 [N, 4]`` in pixels of the resized photo, clipped to it, and
            objectness logits ``float32 [N]``, N at most 1000.
        """
        per_level = [
            self._best_of_level(features, side, stride)
            for features, side, stride in zip(levels, ANCHOR_SIDES, STRIDES, strict=True)
        ]
        level_of = torch.cat(
            [
                torch.full((boxes.shape[1],), index, device=boxes.device)
                for index, (boxes, _) in enumerate(per_level)
            ]
        )
        boxes = torch.cat([item for item, _ in per_level], dim=1)
        logits = torch.cat([item for _, item in per_level], dim=1)
        return [
            _suppress(clip(photo_boxes, size), photo_logits, level_of)
            for photo_boxes, photo_logits, size in zip(boxes, logits, sizes, strict=True)
        ]

    def _best_of_level(self, features: Tensor, side: float, stride: int) -> tuple[Tensor, Tensor]:
        """Return the boxes ``float32 [B, K, 4]`` of the K best logits ``float32 [B, K]``."""
        all_logits, all_deltas = self.rpn_head(features)
        height, width = features.shape[-2:]
        anchors = level_anchors(side, stride, (height, width), features.device)
        count = min(MAX_PROPOSALS, all_logits.shape[1])
        logits, index = all_logits.float().topk(count, dim=1)
        deltas = all_deltas.gather(1, index[:, :, None].expand(-1, -1, 4))
        boxes = apply_deltas(deltas.reshape(-1, 4), anchors[index.reshape(-1)], _BOX_WEIGHTS)
        return boxes.reshape(*index.shape, 4), logits


def _suppress(boxes: Tensor, logits: Tensor, level_of: Tensor) -> tuple[Tensor, Tensor]:
    """Drop empty boxes and those that repeat a better one of their level."""
    usable = has_area(boxes) & logits.isfinite()
    boxes, logits, level_of = boxes[usable], logits[usable], level_of[usable]
    kept = batched_nms(boxes, logits, level_of, NMS_IOU)[:MAX_PROPOSALS]
    return boxes[kept], logits[kept]
