"""Binary cross entropy of masks."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def bce_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross entropy of each mask, mean over its points.

    Args:
        logits: float ``[N, K]``.
        targets: ``[N, K]`` in [0, 1].

    Returns:
        ``[N]`` in the type of the logits.
    """
    targets = targets.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
