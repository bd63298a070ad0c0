"""The granularity of masks that a model gave for one prompt without being asked for any."""

from __future__ import annotations

import torch
from torch import Tensor

from unsam.modeling.granularity_encoding import MAX_GRANULARITY, MIN_GRANULARITY


def granularity_of_answers(logits: Tensor) -> Tensor:
    """Place the answers to each prompt between its finest and its coarsest one.

    UnSAMv2's formula (§3, Eq. 1) over the answers of one prompt: with areas A,
    ``0.1 + 0.9 (sqrt(A) - sqrt(A_min)) / (sqrt(A_max) - sqrt(A_min))``. Answers that are all of
    one size, and a single answer, are wholes.

    Args:
        logits: float ``[P, M, h, w]``, over 0 in the mask.

    Returns:
        float32 ``[P, M]`` in [0.1, 1].
    """
    side = (logits > 0).flatten(2).sum(2).to(torch.float32).sqrt()
    low, high = side.amin(1, keepdim=True), side.amax(1, keepdim=True)
    share = (side - low) / (high - low).clamp_min(1e-6)
    share = torch.where(high > low, share, torch.ones_like(share))
    return MIN_GRANULARITY + (MAX_GRANULARITY - MIN_GRANULARITY) * share
