"""Prompts of an iteration of training, and the masks that each of them may mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.interactive import TrainingClicks, choose_masks, first_prompts
from unsam.modeling.prompts import Prompts
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.semantic_sam.criterion import PromptTargets, mask_boxes
from unsam.modeling.semantic_sam.prompt_boxes import is_click
from unsam.modeling.training_context import TaskSampler

_STRIDE = 4


@dataclass(frozen=True)
class DrawnPrompts:
    """P prompts about one photo, for training.

    Attributes:
        prompts: what is asked.
        targets: what it may mean.
        kinds: `unsam.modeling.interactive.PromptKind` of each prompt, int64 ``[P]``.
        granularity: of the masks of `targets`, float ``[K]``.
    """

    prompts: Prompts
    targets: PromptTargets
    kinds: Tensor
    granularity: Tensor

    @property
    def num_targets(self) -> int:
        """How many masks the prompts may mean, counted once per prompt."""
        return int((self.targets.index >= 0).sum())


def draw_prompts(
    masks: Tensor,
    granularity: Tensor,
    clicks: TrainingClicks,
    max_prompts: int,
    max_targets: int,
    random: SampleRandom,
    tasks: TaskSampler | None = None,
) -> DrawnPrompts:
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
        tasks: draws harder masks and kinds of prompts more often.
    """
    device = masks.device
    weights = None if tasks is None else tasks.mask_weights(granularity)
    own = choose_masks(granularity, max_prompts, clicks.mask_sampling, random.generator(0), weights)
    own = own.to(device)
    clicks = clicks.reweighted(None if tasks is None else tasks.prompt_weights())
    cells = F.avg_pool2d(masks[own].to(torch.float32)[:, None], _STRIDE)[:, 0]
    points, labels, kinds = first_prompts(
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
    targets = PromptTargets(masks, mask_boxes(masks), index)
    return DrawnPrompts(prompts, targets, kinds, granularity.to(device))
