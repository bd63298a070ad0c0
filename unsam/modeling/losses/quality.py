"""Loss of the predicted quality of a mask, and the IoU that it predicts."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

QualityError = Literal["l1", "mse"]


def quality_loss(predicted: Tensor, truth: Tensor, error: QualityError) -> Tensor:
    """Return the absolute (SAM 2) or squared (SAM) error of each predicted quality, ``[P]``.

    Args:
        predicted: float ``[P]``.
        truth: float ``[P]`` in [0, 1], without gradient.
        error: "l1" or "mse".
    """
    difference = predicted - truth
    return difference.abs() if error == "l1" else difference.square()


def mask_iou(first: Tensor, second: Tensor, inside: Tensor) -> Tensor:
    """Return the IoU of the rows of two bool ``[P, N]`` within `inside`, float32 ``[P]``.

    Two empty masks have IoU 0: a prompt always asks for something.
    """
    intersection = (first & second & inside).sum(1)
    union = ((first | second) & inside).sum(1)
    return intersection / union.clamp(min=1)
