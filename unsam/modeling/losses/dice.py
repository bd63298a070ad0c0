"""Dice loss of masks."""

from __future__ import annotations

from torch import Tensor


def soft_dice(logits: Tensor, targets: Tensor, inside: Tensor | None = None) -> Tensor:
    """Return the soft dice coefficient of each mask, smoothed by one pixel.

    Args:
        logits: float ``[N, K]``.
        targets: ``[N, K]`` in [0, 1].
        inside: bool ``[N, K]``, False for pixels that count for nothing; None counts all.

    Returns:
        ``[N]`` in [0, 1], of the type of the logits.
    """
    probability, targets = logits.sigmoid(), targets.to(logits.dtype)
    if inside is not None:
        probability, targets = probability * inside, targets * inside
    overlap = 2 * (probability * targets).sum(1)
    # One more on both sides: nothing predicted for nothing to find is right.
    return (overlap + 1) / (probability.sum(1) + targets.sum(1) + 1)


def dice_loss(logits: Tensor, targets: Tensor, inside: Tensor | None = None) -> Tensor:
    """Return one minus `soft_dice` (Milletari et al. 2016), ``[N]``; arguments as there."""
    return 1 - soft_dice(logits, targets, inside)
