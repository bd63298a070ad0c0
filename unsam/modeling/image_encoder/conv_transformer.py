"""A small image encoder that is trained from scratch: convolutions, then a few attention blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from unsam.modeling.build import IMAGE_ENCODERS
from unsam.modeling.image_encoder.base import EncodedImages, ImageEncoder
from unsam.modeling.layers import ChannelNorm, attend


@IMAGE_ENCODERS.register()
class ConvTransformerEncoder(ImageEncoder):
    """Residual convolution stages at strides 4, 8 and 16, attention at 16, a top-down pyramid.

    The shape is that of SAM 2's encoder (an embedding and two finer maps that the decoder adds
    while it upsamples), at a size that trains on a CPU. All normalisation is per position, so
    padding and the other photos of a batch do not change a photo's statistics.
    """

    stride = 16

    def __init__(
        self,
        *,
        stem_dim: int = 32,
        stage_dims: Sequence[int] = (48, 96, 160),
        stage_depths: Sequence[int] = (2, 2, 2),
        num_attention_blocks: int = 3,
        num_heads: int = 5,
        embed_dim: int = 128,
    ) -> None:
        super().__init__()
        assert len(stage_dims) == 3, "one width each for strides 4, 8 and 16"
        assert len(stage_depths) == 3, "one depth each for strides 4, 8 and 16"
        self.embed_dim = embed_dim
        self.high_res_dims = (stage_dims[0], stage_dims[1])
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem_dim, 3, stride=2, padding=1), ChannelNorm(stem_dim), nn.GELU()
        )
        stages, width = [], stem_dim
        for dim, depth in zip(stage_dims, stage_depths, strict=True):
            reduce = nn.Conv2d(width, dim, 3, stride=2, padding=1)
            blocks = [ResidualBlock(dim) for _ in range(depth)]
            stages.append(nn.Sequential(reduce, ChannelNorm(dim), *blocks))
            width = dim
        self.stages = nn.ModuleList(stages)
        # A depthwise convolution tells attention where a cell lies among its neighbours, at any
        # photo size.
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.attention = nn.ModuleList(
            AttentionBlock(width, num_heads) for _ in range(num_attention_blocks)
        )
        self.neck = nn.Sequential(nn.Conv2d(width, embed_dim, 1), ChannelNorm(embed_dim))
        self.laterals = nn.ModuleList(nn.Conv2d(dim, dim, 1) for dim in self.high_res_dims)
        self.top_downs = nn.ModuleList(
            [nn.Conv2d(stage_dims[1], stage_dims[0], 1), nn.Conv2d(embed_dim, stage_dims[1], 1)]
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``MODEL.IMAGE_ENCODER`` into the constructor's arguments."""
        node = cfg.MODEL.IMAGE_ENCODER
        return {
            "stem_dim": node.STEM_DIM,
            "stage_dims": node.STAGE_DIMS,
            "stage_depths": node.STAGE_DEPTHS,
            "num_attention_blocks": node.NUM_ATTENTION_BLOCKS,
            "num_heads": node.NUM_HEADS,
            "embed_dim": cfg.MODEL.EMBED_DIM,
        }

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> EncodedImages:
        """Return the features of a batch of photos.

        Args:
            pixels: float ``[B, 3, H, W]``, normalised; H and W multiples of 16.
            valid: bool ``[B, H / 16, W / 16]``, False in the padding; None when there is none.
        """
        x = self.stem(pixels)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        x = x + self.position(x)
        B, C, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        mask = None if valid is None else valid.reshape(B, 1, 1, h * w)
        for block in self.attention:
            tokens = block(tokens, mask)
        embedding = self.neck(tokens.transpose(1, 2).reshape(B, C, h, w))
        fine, middle = maps[0], maps[1]
        middle = self.laterals[1](middle) + _double(self.top_downs[1](embedding))
        fine = self.laterals[0](fine) + _double(self.top_downs[0](middle))
        return EncodedImages(embedding=embedding, high_res=(fine, middle))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, normalised first; ``[B, C, h, w]`` to the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(dim)
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm2 = ChannelNorm(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` plus what the two convolutions make of it."""
        y = self.conv1(F.gelu(self.norm1(x)))
        return x + self.conv2(F.gelu(self.norm2(y)))


class AttentionBlock(nn.Module):
    """A pre-norm transformer block over all cells of a photo; ``[B, N, C]`` to the same."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: int = 3) -> None:
        super().__init__()
        assert dim % num_heads == 0, f"{dim} channels do not divide into {num_heads} heads"
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim)
        )

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend over the cells that `mask` (bool ``[B, 1, 1, N]`` or None for all) allows."""
        B, N, C = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(B, N, 3, self.num_heads, C // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = attend(q, k, v, mask)
        x = x + self.project(attended.transpose(1, 2).reshape(B, N, C))
        return x + self.mlp(self.norm2(x))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
