"""A whole photo without prompts: a grid of clicks at several granularities, then suppression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from unsam.errors import ConfigError
from unsam.modeling.granularity_encoding import check_listed_granularities
from unsam.modeling.levels import granularity_of_answers
from unsam.modeling.precision import autocast_dtype
from unsam.modeling.prompts import POSITIVE, Prompts
from unsam.modeling.segmentation_model import InputFrame
from unsam.structures import MaskSet

if TYPE_CHECKING:
    from unsam.modeling.promptable import PromptableModel

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
    """Segments whole photos: ``automatic(model, features, frame) -> MaskSet``.

    Filters and suppression work on the decoder's small masks; only what survives is brought to
    the photo's size (SAM's automatic mask generator upsamples every candidate first).

    Attributes:
        points_per_side: the clicks form a regular grid of so many columns and rows.
        granularities: granularities that are asked for when the caller names none; empty for all
            masks that the model gives for a click without being asked for a granularity.
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
        # What cannot be is refused here and not at the first photo.
        autocast_dtype(self.precision, torch.device("cpu"))
        check_listed_granularities(self.granularities)
        for name in ("points_per_side", "prompts_per_batch", "max_masks", "max_mask_size"):
            count = getattr(self, name)
            if count < 1:
                raise ConfigError(f"INFERENCE.{name.upper()}: at least 1, got {count}")

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
        model: PromptableModel,
        features: Any,
        frame: InputFrame,
        granularities: Sequence[float] | None = None,
    ) -> MaskSet:
        """Segment one encoded photo.

        Args:
            model: the model that encoded it, in evaluation mode.
            features: of one photo.
            frame: where the photo lies in the input.
            granularities: in [0.1, 1]; None takes `self.granularities`.

        Returns:
            Masks of the photo's size, best first: score is the predicted IoU, granularity the one
            asked for (or the mask's place among the answers to its click), parent the smallest
            mask that contains the mask.
        """
        wanted = self.granularities if granularities is None else granularities
        parts = list(self._decode_grid(model, features, frame, wanted))
        candidates = _Candidates(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.quality for part in parts]),
            torch.cat([part.granularity for part in parts]),
        )
        order = candidates.quality.argsort(descending=True, stable=True)
        candidates = candidates.take(order)
        candidates = candidates.take(
            suppress(
                crop_to_input(candidates.logits, model.mask_stride, frame.input_size) > 0,
                self.nms_threshold,
                self.max_masks,
            )
        )
        fields = {
            # Heads without a sigmoid leave [0, 1] now and then.
            "score": candidates.quality.clamp(0, 1).cpu().numpy(),
            "granularity": candidates.granularity.cpu().numpy(),
        }
        masks = masks_at_photo_size(
            candidates.logits, model.grow, frame, self.max_mask_size
        ).replace(**fields)
        return masks.filter(masks.areas > 0).with_parents()

    def _decode_grid(
        self,
        model: PromptableModel,
        features: Any,
        frame: InputFrame,
        granularities: Sequence[float],
    ) -> Iterator[_Candidates]:
        """Yield the masks of each batch of prompts that pass all filters."""
        device = model.device
        h, w = frame.input_size
        n = self.points_per_side
        y, x = torch.meshgrid(
            (torch.arange(n, device=device) + 0.5) * (h / n),
            (torch.arange(n, device=device) + 0.5) * (w / n),
            indexing="ij",
        )
        grid = torch.stack((x, y), dim=-1).reshape(-1, 1, 2)
        points = grid.repeat(max(1, len(granularities)), 1, 1)
        asked = torch.tensor(granularities, dtype=torch.float32, device=device)
        asked = asked.repeat_interleave(len(grid))
        dtype = autocast_dtype(self.precision, device)
        for start in range(0, len(points), self.prompts_per_batch):
            batch = slice(start, start + self.prompts_per_batch)
            count = len(points[batch])
            prompts = Prompts(
                points=points[batch],
                labels=torch.full((count, 1), POSITIVE, device=device),
                granularity=asked[batch] if len(granularities) else None,
                image_of_prompt=torch.zeros(count, dtype=torch.int64, device=device),
            )
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                found = _candidates(model, features, prompts)
            yield self._passing(found, model.mask_stride, frame)

    def _passing(self, found: _Candidates, stride: int, frame: InputFrame) -> _Candidates:
        found = found.take(found.quality >= self.quality_threshold)
        flat = crop_to_input(found.logits, stride, frame.input_size).flatten(1)
        area = (flat > 0).sum(1)
        passes = area >= self.min_cells
        if self.stability_threshold > 0:
            sure = (flat > self.stability_offset).sum(1)
            maybe = (flat > -self.stability_offset).sum(1)
            passes &= sure >= self.stability_threshold * maybe
        return found.take(passes)


def _candidates(model: PromptableModel, features: Any, prompts: Prompts) -> _Candidates:
    """Decode prompts: one mask each at its granularity, or all that the model has for it."""
    if prompts.granularity is not None:
        logits, quality = model.decode(features, prompts)
        return _Candidates(logits, quality, prompts.granularity)
    logits, quality = model.decode_all(features, prompts)
    levels = granularity_of_answers(logits)
    return _Candidates(logits.flatten(0, 1), quality.flatten(), levels.flatten())


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
    grow: Callable[[Tensor, InputFrame], Tensor],
    frame: InputFrame,
    max_mask_size: int,
) -> MaskSet:
    """Bring logits ``[N, h, w]`` to the photo by `grow` and threshold them at 0.

    Works in chunks, so that memory does not grow with the number of masks times the photo's size.
    """
    H, W = frame.photo_size
    shrink = min(1.0, max_mask_size / max(H, W))
    size = (max(1, round(H * shrink)), max(1, round(W * shrink)))
    if len(logits) == 0:
        return MaskSet.empty(frame.photo_size)
    # Transposed, because mask sets run down the columns.
    small = replace(frame, photo_size=size).transposed
    chunk = max(1, _UPSAMPLE_PIXELS // (size[0] * size[1]))
    parts = []
    for start in range(0, len(logits), chunk):
        some = logits[start : start + chunk].transpose(1, 2)
        dense = grow(some, small) > 0
        parts.append(MaskSet.from_masks(np.swapaxes(dense.cpu().numpy(), 1, 2)))
    masks = MaskSet.cat(parts)
    return masks if size == frame.photo_size else masks.resize(frame.photo_size)


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
