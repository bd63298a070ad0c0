"""Small layers that several parts of the model share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each position, ``[B, C, h, w]`` to the same."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every position by itself."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Linear layers with ReLU and dropout between them, ``[..., dims[0]]`` to ``[..., dims[-1]]``.

    Args:
        dims: widths, input and output included.
        dropout: chance that a hidden unit is dropped in training.
    """

    def __init__(self, dims: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(width, following) for width, following in pairwise(dims)
        )
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Apply all layers; nothing follows the last."""
        *hidden, last = self.layers
        for layer in hidden:
            # In place: nothing else sees the product, and memory traffic is its price.
            x = F.relu(layer(x), inplace=True)
            if self.dropout:
                x = F.dropout(x, self.dropout, training=self.training)
        return last(x)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot product attention of ``[B, heads, N, d]`` tensors; returns the shape of `q`.

    On the CPU never in less than float32, even under autocast: torch's bfloat16 kernel is several
    times slower there in the backward pass, and these attentions are little of a model's work.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: bool, broadcast to ``[B, heads, Nq, Nk]``, False for keys that are not attended to.
    """
    if q.device.type != "cpu" or q.dtype in (torch.float32, torch.float64):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask)


def upscale_cells(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """Apply a transposed 2x2 convolution of stride 2 to cells, ``[P, N, C]`` to ``[P, N, 4 C']``.

    Such a convolution is one matrix product per cell; the four sub-cells (y, x) of each come
    before the channels in the result.
    """
    assert layer.bias is not None
    weight = layer.weight.permute(2, 3, 1, 0).reshape(-1, layer.in_channels)
    return F.linear(x, weight, layer.bias.repeat(4))
