"""Prompts of an iteration of training, and the masks that each of them may mean."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.interactive import TrainingClicks, choose_masks, first_prompts
from unsam.modeling.prompts import Prompts
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.semantic_sam.criterion import PromptTargets, mask_boxes
from unsam.modeling.semantic_sam.prompt_boxes import is_click

_STRIDE = 4


def draw_prompts(
    masks: Tensor,
    granularity: Tensor,
    clicks: TrainingClicks,
    max_prompts: int,
    max_targets: int,
    random: SampleRandom,
) -> tuple[Prompts, PromptTargets]:
    """Draw prompts for masks of one photo: a click in each of them, or its box.

    A click means all masks that contain its pixel, in random order, of too many a random choice; a
    box means its own mask alone. A photo of few masks has few prompts (the published training
    repeats them up to `max_prompts`).

    Args:
        masks: bool ``[K, H, W]`` in pixels of the padded input, K at least 1 and none empty.
        granularity: float ``[K]``.
        clicks: how masks are chosen and clicked; its rounds and number of masks are not used.
        max_prompts: the most prompts.
        max_targets: T, the most masks of a prompt.
        random: the stream of this photo alone.
    """
    device = masks.device
    own = choose_masks(granularity, max_prompts, clicks.mask_sampling, random.generator(0))
    own = own.to(device)
    cells = F.avg_pool2d(masks[own].to(torch.float32)[:, None], _STRIDE)[:, 0]
    points, labels = first_prompts(
        masks[own],
        cells,
        _STRIDE,
        clicks.centre_probability,
        clicks.box_probability,
        random,
        [len(own)],
    )
    prompts = Prompts(points, labels, None, torch.zeros_like(own))
    x, y = points[:, 0].long().unbind(1)
    meant = masks[:, y.clamp(max=masks.shape[1] - 1), x.clamp(max=masks.shape[2] - 1)].T
    meant = meant & is_click(prompts)[:, None]
    # A click at the centre of a ragged mask may be just beside it.
    meant[torch.arange(len(own), device=device), own] = True
    rank = random.uniform([len(own)], len(masks)).to(device).masked_fill(~meant, -1.0)
    best = rank.topk(min(max_targets, len(masks)), dim=1)
    index = torch.where(best.values >= 0, best.indices, -1)
    return prompts, PromptTargets(masks, mask_boxes(masks), index)
