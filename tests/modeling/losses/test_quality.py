from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from unsam.modeling.losses import mask_iou, quality_loss


def test_errors_are_the_formulas() -> None:
    predicted, truth = torch.tensor([0.2, 0.9, 0.5]), torch.tensor([0.5, 0.5, 0.5])
    torch.testing.assert_close(quality_loss(predicted, truth, "l1"), torch.tensor([0.3, 0.4, 0.0]))
    torch.testing.assert_close(
        quality_loss(predicted, truth, "mse"), torch.tensor([0.09, 0.16, 0.0])
    )


@pytest.mark.parametrize("error", ["l1", "mse"])
def test_gradient(error) -> None:
    predicted = torch.tensor([0.2, 0.9], dtype=torch.float64, requires_grad=True)
    truth = torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert gradcheck(lambda x: quality_loss(x, truth, error), (predicted,))


def test_iou_counts_pixels_within_the_photo() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second, inside = (torch.rand(4, 20, generator=generator) > 0.4 for _ in range(3))
    for row, found in enumerate(mask_iou(first, second, inside).tolist()):
        a, b, real = ({*x[row].nonzero()[:, 0].tolist()} for x in (first, second, inside))
        assert found == pytest.approx(len(a & b & real) / len((a | b) & real))


def test_two_empty_masks_have_no_iou() -> None:
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    assert mask_iou(nothing, nothing, ~nothing).item() == 0
