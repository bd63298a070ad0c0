"""Focal loss of masks."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    inside: Tensor,
    *,
    alpha: float,
    gamma: float,
    normalized: bool,
) -> Tensor:
    """Return the focal loss of each mask (Lin et al. 2017), mean over its pixels.

    Args:
        logits: float ``[P, N]``.
        targets: float ``[P, N]`` in [0, 1].
        inside: bool ``[P, N]``, False for pixels that count for nothing.
        alpha: weight of the foreground in [0, 1]; below 0 both sides weigh the same.
        gamma: exponent that plays down pixels which are right already; 0 is cross entropy.
        normalized: divide by the sum of the pixels' focal factors, taken for a constant (Sofiiuk et
            al. 2019), instead of by their number.

    Returns:
        ``[P]``.
    """
    probability = logits.sigmoid()
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    right = probability * targets + (1 - probability) * (1 - targets)
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    factor = (1 - right) ** gamma * inside
    if normalized:
        # Where all pixels are right the sum of the factors is next to nothing, and so would be
        # the denominator; below one pixel's worth the loss fades as the plain one does.
        return (loss * factor).sum(1) / factor.detach().sum(1).clamp(min=1.0)
    return (loss * factor).sum(1) / inside.sum(1).clamp(min=1)
