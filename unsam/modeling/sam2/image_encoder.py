"""The image encoder of SAM 2 on the weights of `transformers`, without what images do not need.

The library also computes position codes of all feature maps (for video) and attention maps that
it then drops. Leaving those out changes no bit of what remains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Sam2VideoModel
from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleBlock


@dataclass(frozen=True)
class Sam2Features:
    """B encoded photos; input of S x S pixels.

    Attributes:
        embedding: float ``[B, 256, S / 16, S / 16]``.
        fine: float ``[B, 32, S / 4, S / 4]``.
        middle: float ``[B, 64, S / 8, S / 8]``.
        position: float ``[1, 256, S / 16, S / 16]``, the position code of the embedding's cells.
    """

    embedding: Tensor
    fine: Tensor
    middle: Tensor
    position: Tensor


def fuse_blocks(network: Sam2VideoModel) -> None:
    """Make the library's blocks compute as `HieraBlock`; names and parameters stay."""
    for block in network.vision_encoder.backbone.blocks:
        block.__class__ = HieraBlock


def encode_pixels(network: Sam2VideoModel, pixels: Tensor) -> Sam2Features:
    """Encode normalised photos ``[B, 3, S, S]``."""
    stages = _stages(network.vision_encoder.backbone, pixels)
    fine, middle, coarse = _pyramid(network.vision_encoder.neck, stages)
    with torch.autocast(pixels.device.type, enabled=False):
        position = network.get_image_wide_positional_embeddings()
    return Sam2Features(
        # A photo is a frame without any memory of earlier frames.
        embedding=coarse + network.no_memory_embedding[0, :, :, None, None],
        fine=network.mask_decoder.conv_s0(fine),
        middle=network.mask_decoder.conv_s1(middle),
        position=position,
    )


def _stages(backbone: Any, pixels: Tensor) -> list[Tensor]:
    """Return the output ``[B, h, w, C]`` of each of the four stages, fine first."""
    x = backbone.patch_embed(pixels)
    x = x + backbone._get_pos_embed(x.shape[1:3])
    stages = []
    for index, block in enumerate(backbone.blocks):
        x = block(x)
        if index in backbone.stage_ends:
            stages.append(x)
    return stages


class HieraBlock(Sam2MultiScaleBlock):
    """A block of the library that attends by torch's fused kernels."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Apply the block to ``[B, h, w, C]``; the first of a stage halves height and width."""
        stride: Any = self.query_stride
        normed = self.layer_norm1(x)
        if self.dim != self.dim_out:
            x = _pooled(self.proj(normed), stride)
        height, width = x.shape[1:3]
        if self.window_size == 0:
            attended = _attention(self.attn, normed)
        else:
            windows = _cut(normed, self.window_size)
            side = self.window_size // (stride[0] if stride else 1)
            attended = _paste(_attention(self.attn, windows), side, height, width)
        x = x + attended
        return x + self.mlp(self.layer_norm2(x))


def _attention(attention: Any, x: Tensor) -> Tensor:
    """Attend within each of the maps ``[N, h, w, C]``; queries may be pooled."""
    count, height, width, _ = x.shape
    heads = attention.num_attention_heads
    q, k, v = attention.qkv(x).reshape(count, height * width, 3, heads, -1).unbind(2)
    if attention.query_stride:
        q = _pooled(q.reshape(count, height, width, -1), attention.query_stride)
        height, width = q.shape[1:3]
        q = q.reshape(count, height * width, heads, -1)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v)
    return attention.proj(attended.transpose(1, 2).reshape(count, height, width, -1))


def _pooled(x: Tensor, stride: list[int] | None) -> Tensor:
    """Take the maximum of each `stride` cells of ``[N, h, w, C]``; with None all cells stay."""
    if not stride:
        return x
    return F.max_pool2d(x.permute(0, 3, 1, 2), stride).permute(0, 2, 3, 1)


def _cut(x: Tensor, side: int) -> Tensor:
    """Cut ``[B, h, w, C]`` into windows ``[N, side, side, C]``, zeros where they reach beyond."""
    batch, height, width, channels = x.shape
    below, right = -height % side, -width % side
    if below or right:
        x = F.pad(x, (0, 0, 0, right, 0, below))
    rows, columns = (height + below) // side, (width + right) // side
    x = x.view(batch, rows, side, columns, side, channels).transpose(2, 3)
    return x.reshape(-1, side, side, channels)


def _paste(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """Undo `_cut`: windows ``[N, side, side, C]`` to ``[B, height, width, C]``."""
    rows, columns = -(-height // side), -(-width // side)
    channels = windows.shape[-1]
    x = windows.view(-1, rows, columns, side, side, channels).transpose(2, 3)
    x = x.reshape(-1, rows * side, columns * side, channels)
    return x[:, :height, :width]


def _pyramid(neck: Any, stages: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return maps ``[B, 256, h, w]`` at strides 4, 8 and 16; the coarsest stage feeds the last."""
    maps: list[Tensor] = []
    coarse_first = range(len(stages) - 1, -1, -1)
    for conv, level in zip(neck.convs, coarse_first, strict=True):
        x = conv(stages[level].permute(0, 3, 1, 2))
        if maps and level in neck.fpn_top_down_levels:
            above = F.interpolate(maps[-1].to(torch.float32), scale_factor=2.0, mode="nearest")
            x = x + above.to(x.dtype)
        maps.append(x)
    _, coarse, middle, fine = maps
    return fine, middle, coarse
