from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from unsam.modeling.losses import box_l1_loss, giou_loss


def boxes(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.2 + 0.3 * torch.rand(5, 4, generator=generator, dtype=torch.float64)


def corners(box: torch.Tensor) -> tuple[float, ...]:
    x, y, w, h = box.tolist()
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def giou(first: torch.Tensor, second: torch.Tensor) -> float:
    (a, b, c, d), (e, f, g, h) = corners(first), corners(second)
    common = max(0.0, min(c, g) - max(a, e)) * max(0.0, min(d, h) - max(b, f))
    union = (c - a) * (d - b) + (g - e) * (h - f) - common
    hull = (max(c, g) - min(a, e)) * (max(d, h) - min(b, f))
    return common / union - (hull - union) / hull


def test_they_are_the_formulas() -> None:
    found, wanted = boxes(0), boxes(1)
    # One pair far apart: overlap has no gradient there, the generalised IoU has.
    wanted[0, :2] += 2
    expected = [
        sum(abs(a - b) for a, b in zip(*pair, strict=True))
        for pair in zip(found.tolist(), wanted.tolist(), strict=True)
    ]
    assert box_l1_loss(found, wanted).tolist() == pytest.approx(expected)
    expected = [1 - giou(*pair) for pair in zip(found, wanted, strict=True)]
    assert giou_loss(found, wanted).tolist() == pytest.approx(expected, abs=1e-5)
    assert expected[0] > 1


@pytest.mark.parametrize("loss", [box_l1_loss, giou_loss])
def test_gradient(loss) -> None:
    assert gradcheck(loss, (boxes(0).requires_grad_(), boxes(1)))


@pytest.mark.parametrize("loss", [box_l1_loss, giou_loss])
def test_right_boxes_cost_nothing(loss) -> None:
    assert loss(boxes(0), boxes(0)).abs().max() < 1e-5
