"""Losses of boxes: L1 and generalised IoU."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def box_l1_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Return the sum of the absolute errors of each box's four numbers, ``[N]``.

    Args:
        boxes: float ``[N, 4]``: centre x, centre y, width, height as fractions of the input.
        targets: ``[N, 4]``, the same.
    """
    return F.l1_loss(boxes, targets.to(boxes.dtype), reduction="none").sum(1)


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Return one minus the generalised IoU (Rezatofighi et al. 2019) of each pair, ``[N]``.

    Arguments as of `box_l1_loss`; the values are in [0, 2].
    """
    # Imported here: it takes over a second, and few models have boxes.
    from torchvision.ops import box_convert, generalized_box_iou_loss

    return generalized_box_iou_loss(
        box_convert(boxes, "cxcywh", "xyxy"),
        box_convert(targets.to(boxes.dtype), "cxcywh", "xyxy"),
    )
