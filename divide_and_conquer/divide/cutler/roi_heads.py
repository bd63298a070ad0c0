"""The cascade of box heads and the mask head, on features pooled under boxes.

Source: Cascade R-CNN (Cai and Vasconcelos 2017, arXiv 1712.00726) with the mask head of Mask R-CNN
(He et al. 2017, arXiv 1703.06870); one class, box regression shared by all classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from divide_and_conquer.divide.cutler.boxes import apply_deltas, clip, pool

BOX_RESOLUTION = 7
MASK_RESOLUTION = 14
NMS_IOU = 0.5
_STAGE_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


@dataclass(frozen=True)
class Detections:
    """What the net finds in one photo, best first.

    Attributes:
        boxes: ``float32 [N, 4]``, XYXY in pixels of the resized photo, clipped to it.
        scores: ``float32 [N]`` in [0, 1].
        masks: ``float32 [N, 28, 28]``, probabilities over the box.
    """

    boxes: Tensor
    scores: Tensor
    masks: Tensor


class BoxHead(nn.Module):
    """Two fully connected layers."""

    def __init__(self, channels: int = 256, hidden: int = 1024) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels * BOX_RESOLUTION**2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)

    def forward(self, pooled: Tensor) -> Tensor:
        """Map ``float [N, 256, 7, 7]`` to ``float [N, 1024]``."""
        return self.fc2(self.fc1(pooled.flatten(1)).relu_()).relu_()


class BoxPredictor(nn.Module):
    """Class logits (object, background) and box deltas."""

    def __init__(self, hidden: int = 1024) -> None:
        super().__init__()
        self.cls_score = nn.Linear(hidden, 2)
        self.bbox_pred = nn.Linear(hidden, 4)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``float32 [N, 2]`` logits and ``float32 [N, 4]`` deltas."""
        return self.cls_score(hidden).float(), self.bbox_pred(hidden).float()


class MaskHead(nn.Sequential):
    """Four convolutions, one that doubles the resolution, and one to a single mask."""

    def __init__(self, channels: int = 256) -> None:
        super().__init__()
        for index in range(1, 5):
            self.add_module(f"mask_fcn{index}", nn.Conv2d(channels, channels, 3, padding=1))
            self.add_module(f"relu{index}", nn.ReLU(inplace=True))
        self.add_module("deconv", nn.ConvTranspose2d(channels, channels, 2, stride=2))
        self.add_module("relu5", nn.ReLU(inplace=True))
        self.add_module("predictor", nn.Conv2d(channels, 1, 1))


class CascadeHeads(nn.Module):
    """Three rounds of classifying and mending the proposals, then masks of the best ones."""

    def __init__(self) -> None:
        super().__init__()
        self.box_head = nn.ModuleList(BoxHead() for _ in _STAGE_WEIGHTS)
        self.box_predictor = nn.ModuleList(BoxPredictor() for _ in _STAGE_WEIGHTS)
        self.mask_head = MaskHead()

    def stage(
        self, index: int, levels: Sequence[Tensor], boxes: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Run one stage of the cascade.

        Args:
            index: 0, 1 or 2.
            levels: p2 to p5 (more are ignored), ``float [B, 256, h, w]``.
            boxes: one ``float32 [N_b, 4]`` per photo.

        Returns:
            Class logits ``float32 [N, 2]`` (object, background) and mended boxes
            ``float32 [N, 4]``, not clipped; N counts the boxes of all photos.
        """
        hidden = self.box_head[index](pool(levels, boxes, BOX_RESOLUTION))
        logits, deltas = self.box_predictor[index](hidden)
        return logits, apply_deltas(deltas, torch.cat(list(boxes)), _STAGE_WEIGHTS[index])

    def forward(
        self,
        levels: Sequence[Tensor],
        proposals: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        *,
        score_threshold: float,
        max_detections: int,
    ) -> list[Detections]:
        """Turn proposals into detections.

        Args:
            levels: p2 to p5 (more are ignored), ``float [B, 256, h, w]``.
            proposals: one ``float32 [N_b, 4]`` per photo.
            sizes: ``(H, W)`` of each resized photo, without padding.
            score_threshold: detections have a larger score.
            max_detections: per photo.
        """
        counts = [len(item) for item in proposals]
        boxes = list(proposals)
        score = proposals[0].new_zeros(sum(counts))
        for index in range(len(_STAGE_WEIGHTS)):
            logits, mended = self.stage(index, levels, boxes)
            score = score + logits.softmax(dim=1)[:, 0] / len(_STAGE_WEIGHTS)
            boxes = [
                clip(item, size) for item, size in zip(mended.split(counts), sizes, strict=True)
            ]
        best = [
            _best_boxes(photo_boxes, photo_score, score_threshold, max_detections)
            for photo_boxes, photo_score in zip(boxes, score.split(counts), strict=True)
        ]
        masks = self.masks(levels, [item for item, _ in best])
        return [
            Detections(photo_boxes, photo_score, photo_masks)
            for (photo_boxes, photo_score), photo_masks in zip(best, masks, strict=True)
        ]

    def masks(self, levels: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor]:
        """Return for each photo the mask probabilities of its boxes, ``float32 [N_b, 28, 28]``."""
        logits = self.mask_head(pool(levels, boxes, MASK_RESOLUTION))
        return list(logits[:, 0].float().sigmoid().split([len(item) for item in boxes]))


def _best_boxes(
    boxes: Tensor, score: Tensor, score_threshold: float, max_detections: int
) -> tuple[Tensor, Tensor]:
    """Return the best boxes and their scores, without those that repeat a better one."""
    usable = (score > score_threshold) & boxes.isfinite().all(dim=1)
    boxes, score = boxes[usable], score[usable]
    kept = nms(boxes, score, NMS_IOU)[:max_detections]
    return boxes[kept], score[kept]
