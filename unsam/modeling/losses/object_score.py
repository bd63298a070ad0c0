"""Loss of the object score: is what the prompt asks for there at all?"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def object_score_loss(logits: Tensor, targets: Tensor, inside: Tensor) -> Tensor:
    """Return the binary cross entropy of each score (SAM 2, Ravi et al. 2024, appendix D).

    Args:
        logits: float ``[P]``, over 0 where the model sees an object.
        targets: ``[P, N]``, the masks asked for, over 0 where there is some of it.
        inside: bool ``[P, N]``, False for pixels that count for nothing.

    Returns:
        ``[P]``.
    """
    exists = ((targets > 0) & inside).any(1)
    return F.binary_cross_entropy_with_logits(logits, exists.to(logits.dtype), reduction="none")
