"""The simulated user of training: which masks, where the first click, where the corrections.

All randomness comes from the samples' own streams, see `unsam.modeling.sample_random`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, NEGATIVE, PADDING, POSITIVE
from unsam.modeling.sample_random import SampleRandom
from unsam.structures.granularity_bands import granularity_bands

_MAX_DEPTH = 8


class PromptKind(IntEnum):
    """What the first prompt of a mask is."""

    UNIFORM_CLICK = 0
    CENTRE_CLICK = 1
    BOX = 2


@dataclass(frozen=True)
class TrainingClicks:
    """How the simulated user of training behaves.

    Attributes:
        rounds: decoder runs per mask: the first prompt, then corrections.
        masks_per_image: the most masks of one photo in one iteration.
        mask_sampling: "uniform" or "balanced" over granularities.
        centre_probability: chance that the first click is at the centre of the mask.
        box_probability: chance that the first prompt is a box.
    """

    rounds: int = 3
    masks_per_image: int = 16
    mask_sampling: str = "uniform"
    centre_probability: float = 0.3
    box_probability: float = 0.1

    def __post_init__(self) -> None:
        if self.mask_sampling not in ("uniform", "balanced"):
            raise ValueError(
                f"MODEL.CLICKS.MASK_SAMPLING is 'uniform' or 'balanced', got {self.mask_sampling!r}"
            )
        if self.rounds < 1 or self.masks_per_image < 1:
            raise ValueError("MODEL.CLICKS.ROUNDS and MASKS_PER_IMAGE are at least 1")

    def reweighted(self, weights: Tensor | None) -> TrainingClicks:
        """Return the same user with other chances of the first prompt's kinds.

        Args:
            weights: ``[3]``, over 0, factors on the chance of each `PromptKind`; None changes
                nothing. A kind of chance 0 keeps it.
        """
        if weights is None:
            return self
        uniform, centre, box = weights.tolist()
        click = 1 - self.box_probability
        uniform *= click * (1 - self.centre_probability)
        centre *= click * self.centre_probability
        box *= self.box_probability
        return replace(
            self,
            centre_probability=centre / (uniform + centre) if centre else 0.0,
            box_probability=box / (uniform + centre + box),
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``MODEL.CLICKS`` into the constructor's arguments."""
        node = cfg.MODEL.CLICKS
        return {
            "rounds": node.ROUNDS,
            "masks_per_image": node.MASKS_PER_IMAGE,
            "mask_sampling": node.MASK_SAMPLING,
            "centre_probability": node.CENTRE_PROBABILITY,
            "box_probability": node.BOX_PROBABILITY,
        }


def choose_masks(
    granularity: Tensor,
    max_masks: int,
    sampling: str,
    generator: torch.Generator | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Choose up to `max_masks` masks of one photo, without replacement.

    Args:
        granularity: float ``[M]`` in [0.1, 1].
        max_masks: the most that are chosen.
        sampling: "uniform" (UnSAMv2), or "balanced": each band of granularity that has a mask is
            as likely as the others.
        generator: the stream of the sample; None takes torch's global one.
        weights: further factors ``[M]`` on the chance of each mask, over 0.

    Returns:
        int64 indices, on the CPU.
    """
    count = len(granularity)
    if count <= max_masks:
        return torch.arange(count)
    if sampling == "uniform" and weights is None:
        return torch.randperm(count, generator=generator)[:max_masks]
    chance = torch.ones(count) if weights is None else weights.cpu()
    if sampling == "balanced":
        bands = torch.from_numpy(granularity_bands(granularity.cpu().numpy()))
        chance = chance / torch.bincount(bands)[bands]
    return torch.multinomial(chance, max_masks, generator=generator)


def first_prompts(
    masks: Tensor,
    cells: Tensor,
    stride: int,
    centre_probability: float,
    box_probability: float,
    random: SampleRandom,
    counts: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first prompt of each mask: a click somewhere in it, at its centre, or its box.

    Args:
        masks: bool ``[P, H, W]``, none of them empty, in pixels of the model's input.
        cells: float ``[P, h, w]`` in [0, 1], the same masks at the decoder's resolution.
        stride: pixels per cell.
        centre_probability: chance that a click is at the centre rather than uniform in the mask.
        box_probability: chance that the prompt is a box.
        random: the streams of the samples.
        counts: masks of each sample, in the order of `masks`.

    Returns:
        Points ``[P, 2, 2]`` (x, y in pixels) and labels ``[P, 2]``: a click and padding, or the
        two corners of a box. And which `PromptKind` each is, int64 ``[P]``.
    """
    pixel, cell, centre, box = random.uniform(counts, 4).to(masks.device).unbind(1)
    clicks = _uniform_pixels(masks, pixel) + 0.5
    solid = cells > 0.5
    centres = (_uniform_pixels(_deepest(solid), cell) + 0.5) * stride
    at_centre = (centre < centre_probability) & solid.flatten(1).any(1)
    clicks = torch.where(at_centre[:, None], centres, clicks)
    boxes = _jittered_boxes(masks, random.normal(counts, 2, 2).to(masks.device))
    is_box = box < box_probability
    points = torch.where(is_box[:, None, None], boxes, torch.stack((clicks, clicks), dim=1))
    box_labels = torch.tensor([BOX_FIRST, BOX_LAST], device=masks.device)
    click_labels = torch.tensor([POSITIVE, PADDING], device=masks.device)
    labels = torch.where(is_box[:, None], box_labels, click_labels)
    kinds = torch.where(at_centre, PromptKind.CENTRE_CLICK, PromptKind.UNIFORM_CLICK)
    return points, labels, kinds.masked_fill(is_box, PromptKind.BOX)


def correction_clicks(
    logits: Tensor, cells: Tensor, inside: Tensor, stride: int, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """Return one click per mask, uniform in the region where the prediction is wrong.

    Args:
        logits: float ``[P, h, w]``, the prediction.
        cells: float ``[P, h, w]`` in [0, 1], the truth.
        inside: bool ``[P, h, w]``, False in the padding.
        stride: pixels per cell.
        uniform: ``[P]`` random numbers in [0, 1).

    Returns:
        Points ``[P, 1, 2]`` in pixels and labels ``[P, 1]``: positive where the mask was missed,
        negative where it spilled, padding where there is nothing to correct.
    """
    truth = cells > 0.5
    wrong = ((logits > 0) != truth) & inside
    pixels = _uniform_pixels(wrong, uniform)
    x, y = pixels.long().unbind(1)
    hit = truth[torch.arange(len(truth), device=truth.device), y, x]
    labels = torch.where(hit, POSITIVE, NEGATIVE)
    labels = torch.where(wrong.flatten(1).any(1), labels, PADDING)
    return ((pixels + 0.5) * stride)[:, None], labels[:, None]


def _uniform_pixels(masks: Tensor, uniform: Tensor) -> Tensor:
    """Draw one True pixel of each ``[P, H, W]`` mask: float ``[P, 2]``, column and row index.

    The random numbers ``[P]`` pick the k-th True pixel. Of an empty mask it is the last pixel.
    """
    P, H, W = masks.shape
    running = masks.reshape(P, H * W).cumsum(1, dtype=torch.int32)
    counts = running[:, -1:]
    rank = (uniform.to(masks.device)[:, None] * counts).to(torch.int32) + 1
    rank = torch.minimum(rank, counts.clamp(min=1))
    index = torch.searchsorted(running, rank)[:, 0].clamp(max=H * W - 1)
    return torch.stack((index % W, index // W), dim=1).to(torch.float32)


def _deepest(masks: Tensor) -> Tensor:
    """Return where each bool ``[P, h, w]`` mask survives the most erosions by one cell."""
    current = masks[:, None].to(torch.float32)
    depth = current.clone()
    for _ in range(_MAX_DEPTH - 1):
        outside = F.pad(1 - current, (1, 1, 1, 1), value=1.0)
        current = 1 - F.max_pool2d(outside, 3, stride=1)
        depth += current
    depth = depth[:, 0]
    return (depth == depth.amax((1, 2), keepdim=True)) & masks


def _jittered_boxes(masks: Tensor, normal: Tensor) -> Tensor:
    """Return the corners ``[P, 2, 2]`` of the masks' boxes, each moved by a tenth of the size.

    The moves are in proportion to `normal`, random numbers of the same shape.
    """
    columns, rows = masks.any(1).float(), masks.any(2).float()
    W, H = columns.shape[1], rows.shape[1]
    first = torch.stack((columns.argmax(1), rows.argmax(1)), dim=1)
    last = torch.stack((W - columns.flip(1).argmax(1), H - rows.flip(1).argmax(1)), dim=1)
    noise = normal.clamp(-2, 2) * 0.1
    corners = torch.stack((first, last), dim=1) + noise * (last - first)[:, None]
    limits = torch.tensor([W, H], device=masks.device)
    return torch.minimum(corners.clamp(min=0), limits)
