"""A whole photo without prompts: a grid of clicks at several granularities, then suppression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.image_encoder import EncodedImages
from unsam.modeling.precision import autocast_dtype
from unsam.modeling.prompts import POSITIVE, Prompts
from unsam.structures import MaskSet

if TYPE_CHECKING:
    from unsam.modeling.granular_sam import GranularSam

_NMS_BLOCK = 256
_UPSAMPLE_PIXELS = 32_000_000


@dataclass(frozen=True)
class _Candidates:
    """Masks at the decoder's resolution: logits ``[N, h, w]``, quality and granularity ``[N]``."""

    logits: Tensor
    quality: Tensor
    granularity: Tensor

    def take(self, index: Tensor) -> _Candidates:
        """Return the candidates of an index array or a bool mask."""
        return _Candidates(self.logits[index], self.quality[index], self.granularity[index])


@dataclass(frozen=True)
class AutomaticMasks:
    """Segments whole photos: ``automatic(model, images, input_size, photo_size) -> MaskSet``.

    Filters and suppression work on the decoder's small masks; only what survives is brought to
    the photo's size (SAM's automatic mask generator upsamples every candidate first).

    Attributes:
        points_per_side: the clicks form a regular grid of so many columns and rows.
        granularities: granularities that are asked for when the caller names none.
        prompts_per_batch: prompts that are decoded at once.
        precision: of the decoding, as in `unsam.modeling.precision`.
        quality_threshold: least predicted IoU.
        stability_threshold: least IoU between the masks at logits above and below zero by
            `stability_offset`; 0 keeps all.
        stability_offset: see `stability_threshold`.
        nms_threshold: of two masks with a larger IoU the one of less quality goes.
        min_cells: least area of a mask, in cells of the decoder's resolution.
        max_masks: the most masks of a photo, best quality first.
        max_mask_size: longer side in pixels up to which masks are upsampled smoothly; for larger
            photos they are enlarged from there by nearest neighbour.
    """

    points_per_side: int = 24
    granularities: tuple[float, ...] = (0.12, 0.16, 0.22, 0.32, 0.5, 0.8)
    prompts_per_batch: int = 192
    precision: str = "auto"
    quality_threshold: float = 0.3
    stability_threshold: float = 0.0
    stability_offset: float = 1.0
    nms_threshold: float = 0.8
    min_cells: int = 1
    max_masks: int = 1000
    max_mask_size: int = 1024

    def __post_init__(self) -> None:
        # A wrong name is refused here and not at the first photo.
        autocast_dtype(self.precision, torch.device("cpu"))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``INFERENCE`` into the constructor's arguments."""
        node = cfg.INFERENCE
        return {
            "points_per_side": node.POINTS_PER_SIDE,
            "granularities": tuple(node.GRANULARITIES),
            "prompts_per_batch": node.PROMPTS_PER_BATCH,
            "precision": node.PRECISION,
            "quality_threshold": node.QUALITY_THRESHOLD,
            "stability_threshold": node.STABILITY_THRESHOLD,
            "stability_offset": node.STABILITY_OFFSET,
            "nms_threshold": node.NMS_THRESHOLD,
            "min_cells": node.MIN_CELLS,
            "max_masks": node.MAX_MASKS,
            "max_mask_size": node.MAX_MASK_SIZE,
        }

    @torch.inference_mode()
    def __call__(
        self,
        model: GranularSam,
        images: EncodedImages,
        input_size: tuple[int, int],
        photo_size: tuple[int, int],
        granularities: Sequence[float] | None = None,
    ) -> MaskSet:
        """Segment one encoded photo.

        Args:
            model: the model that encoded it, in evaluation mode.
            images: features of one photo.
            input_size: ``(h, w)`` of the resized photo that was encoded.
            photo_size: ``(H, W)`` of the photo, the size of the result.
            granularities: in [0.1, 1]; None takes `self.granularities`.

        Returns:
            Masks, best first: score is the predicted IoU, granularity the one asked for, parent
            the smallest mask that contains the mask.
        """
        wanted = self.granularities if granularities is None else granularities
        parts = list(self._decode_grid(model, images, input_size, wanted))
        candidates = _Candidates(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.quality for part in parts]),
            torch.cat([part.granularity for part in parts]),
        )
        order = candidates.quality.argsort(descending=True, stable=True)
        candidates = candidates.take(order)
        candidates = candidates.take(
            suppress(candidates.logits > 0, self.nms_threshold, self.max_masks)
        )
        fields = {
            "score": candidates.quality.cpu().numpy(),
            "granularity": candidates.granularity.cpu().numpy(),
        }
        masks = masks_at_photo_size(
            candidates.logits, model.mask_stride, input_size, photo_size, self.max_mask_size
        ).replace(**fields)
        return masks.filter(masks.areas > 0).with_parents()

    def _decode_grid(
        self,
        model: GranularSam,
        images: EncodedImages,
        input_size: tuple[int, int],
        granularities: Sequence[float],
    ) -> Iterator[_Candidates]:
        """Yield the masks of each batch of prompts that pass all filters."""
        device = images.embedding.device
        h, w = input_size
        n = self.points_per_side
        y, x = torch.meshgrid(
            (torch.arange(n, device=device) + 0.5) * (h / n),
            (torch.arange(n, device=device) + 0.5) * (w / n),
            indexing="ij",
        )
        grid = torch.stack((x, y), dim=-1).reshape(-1, 1, 2)
        points = grid.repeat(len(granularities), 1, 1)
        asked = torch.tensor(granularities, dtype=torch.float32, device=device)
        asked = asked.repeat_interleave(len(grid))
        dtype = autocast_dtype(self.precision, device)
        for start in range(0, len(points), self.prompts_per_batch):
            batch = slice(start, start + self.prompts_per_batch)
            count = len(points[batch])
            prompts = Prompts(
                points=points[batch],
                labels=torch.full((count, 1), POSITIVE, device=device),
                granularity=asked[batch],
                image_of_prompt=torch.zeros(count, dtype=torch.int64, device=device),
            )
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                logits, quality = model.decode(images, prompts)
            logits = crop_to_input(logits, model.mask_stride, input_size)
            yield self._passing(_Candidates(logits, quality, asked[batch]))

    def _passing(self, found: _Candidates) -> _Candidates:
        found = found.take(found.quality >= self.quality_threshold)
        flat = found.logits.flatten(1)
        area = (flat > 0).sum(1)
        passes = area >= self.min_cells
        if self.stability_threshold > 0:
            sure = (flat > self.stability_offset).sum(1)
            maybe = (flat > -self.stability_offset).sum(1)
            passes &= sure >= self.stability_threshold * maybe
        return found.take(passes)


def suppress(masks: Tensor, iou_threshold: float, max_masks: int) -> Tensor:
    """Return the indices that exact greedy non-maximum suppression keeps, at most `max_masks`.

    Args:
        masks: bool ``[N, h, w]``, best first.
        iou_threshold: a mask goes when its IoU with a mask kept before it is larger.
        max_masks: the search ends with so many.
    """
    flat = masks.flatten(1)
    area = flat.sum(1).to(torch.float32)
    kept = torch.zeros(0, dtype=torch.int64, device=masks.device)
    for start in range(0, len(flat), _NMS_BLOCK):
        block = torch.arange(start, min(start + _NMS_BLOCK, len(flat)), device=masks.device)
        index = torch.cat((kept, block))
        own = flat[block].to(torch.float32)
        # Counts up to 2^24 are exact in float32; the decoder's masks have far fewer cells.
        common = own @ flat[index].to(torch.float32).T
        union = area[block, None] + area[None, index] - common
        overlaps = (common > iou_threshold * union).cpu().numpy()
        alive = np.logical_not(overlaps[:, : len(kept)].any(axis=1))
        among = overlaps[:, len(kept) :]
        for row in range(len(block)):
            if alive[row]:
                alive[row + 1 :] &= ~among[row, row + 1 :]
        kept = torch.cat((kept, block[torch.from_numpy(alive).to(block.device)]))
        if len(kept) >= max_masks:
            break
    return kept[:max_masks]


def crop_to_input(logits: Tensor, stride: int, input_size: tuple[int, int]) -> Tensor:
    """Cut the padding off ``[P, h, w]`` logits, to the cells that the resized photo touches."""
    h, w = input_size
    return logits[:, : -(-h // stride), : -(-w // stride)]


def masks_at_photo_size(
    logits: Tensor,
    stride: int,
    input_size: tuple[int, int],
    photo_size: tuple[int, int],
    max_mask_size: int,
) -> MaskSet:
    """Upsample cropped logits ``[N, h, w]`` to the photo and threshold them at 0.

    Works in chunks, so that memory does not grow with the number of masks times the photo's size.
    """
    H, W = photo_size
    shrink = min(1.0, max_mask_size / max(H, W))
    size = (max(1, round(H * shrink)), max(1, round(W * shrink)))
    if len(logits) == 0:
        return MaskSet.empty(photo_size)
    chunk = max(1, _UPSAMPLE_PIXELS // (size[0] * size[1]))
    parts = []
    for start in range(0, len(logits), chunk):
        # Transposed, because mask sets run down the columns.
        some = logits[start : start + chunk].transpose(1, 2)
        dense = upsample(some, stride, input_size[::-1], size[::-1]) > 0
        parts.append(MaskSet.from_masks(np.swapaxes(dense.cpu().numpy(), 1, 2)))
    masks = MaskSet.cat(parts)
    return masks if size == photo_size else masks.resize(photo_size)


def upsample(
    logits: Tensor, stride: int, input_size: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Interpolate logits ``[N, h, w]`` of the resized photo at the pixels of `size`.

    The last cells may reach beyond the resized photo; that part is not stretched over the photo
    but cut off.
    """
    # A little more than the exact ratio, lest rounding loses the last row.
    ratios = [stride * size[axis] / input_size[axis] * (1 + 1e-6) for axis in (0, 1)]
    grown = F.interpolate(
        logits[:, None].to(torch.float32),
        scale_factor=(ratios[0], ratios[1]),
        mode="bilinear",
        align_corners=False,
        recompute_scale_factor=False,
    )
    return grown[:, 0, : size[0], : size[1]]
