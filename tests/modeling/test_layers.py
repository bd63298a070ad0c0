"""Attention keeps its precision, perceptrons their input; cells upscale as a convolution does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unsam.modeling.layers import Mlp, attend, upscale_cells


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_attention_against_its_definition(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    exact = [torch.randn(2, 3, 5, 8, dtype=torch.float64) for _ in range(3)]
    q, k, v = (part.to(dtype) for part in exact)
    mask = torch.rand(2, 1, 5, 5) > 0.3
    mask[..., 0] = True
    scores = (q.double() @ k.double().transpose(2, 3) / 8**0.5).masked_fill(~mask, -torch.inf)
    expected = scores.softmax(-1) @ v.double()
    torch.testing.assert_close(attend(q, k, v, mask).double(), expected, atol=tolerance, rtol=0)


def test_a_perceptron_leaves_its_input_alone() -> None:
    x = torch.randn(4, 6, requires_grad=True)
    before = x.detach().clone()
    Mlp((6, 5, 3))(x).sum().backward()
    assert torch.equal(x, before)
    assert x.grad is not None


def test_upscaled_cells_are_those_of_the_convolution() -> None:
    layer = nn.ConvTranspose2d(6, 5, 2, stride=2).double()
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    cells = upscale_cells(x.flatten(2).transpose(1, 2), layer)
    image = cells.reshape(2, 3, 4, 2, 2, 5).permute(0, 5, 1, 3, 2, 4).reshape(2, 5, 6, 8)
    torch.testing.assert_close(image, layer(x))
