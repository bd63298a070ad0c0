"""Swin Transformer, the backbone of promptable UnSAM.

Source: Liu et al. 2021 (arXiv 2103.14030) as its authors use it for detection: maps of any size,
padded to whole windows in every block, and a norm on every stage's output.
`unsam.checkpoint.layouts.swin_names` gives the published names of the tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from timm.layers import DropPath
from torch import Tensor, nn

from unsam.modeling.backbone.base import STAGES, Backbone, shape_of_size
from unsam.modeling.build import BACKBONES

_PATCH = 4
_MLP_RATIO = 4


@dataclass(frozen=True)
class SwinSize:
    """The dimensions of one published size.

    Attributes:
        dim: channels of the first stage; they double from stage to stage.
        depths: blocks of the stages.
        num_heads: attention heads of the stages.
        window: cells along the side of a window.
    """

    dim: int
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]
    window: int


SIZES = {
    "tiny": SwinSize(96, (2, 2, 6, 2), (3, 6, 12, 24), window=7),
    # Pretrained on 384 pixels, hence the larger window.
    "large": SwinSize(192, (2, 2, 18, 2), (6, 12, 24, 48), window=12),
}
"""The published sizes by their name in configs."""


@BACKBONES.register()
class SwinTransformer(Backbone):
    """Four stages of attention in windows that shift from block to block.

    Args:
        size: "tiny" or "large".
        drop_path: chance that a residual branch of the last block is skipped in training; it grows
            in equal steps from 0 in the first block.

    Raises:
        ConfigError: `size` is no such size.
    """

    def __init__(self, *, size: str = "tiny", drop_path: float = 0.0) -> None:
        super().__init__()
        shape = shape_of_size(size, SIZES)
        dims = [shape.dim * 2**stage for stage in range(4)]
        self.channels = (dims[0], dims[1], dims[2], dims[3])
        rates = np.linspace(0, drop_path, sum(shape.depths)).tolist()
        self.patch_embedding = nn.Conv2d(3, dims[0], _PATCH, stride=_PATCH)
        self.patch_norm = nn.LayerNorm(dims[0])
        self.stages = nn.ModuleList()
        for dim, depth, heads in zip(dims, shape.depths, shape.num_heads, strict=True):
            self.stages.append(SwinStage(dim, heads, shape.window, rates[:depth]))
            rates = rates[depth:]
        self.merges = nn.ModuleList(PatchMerging(dim) for dim in dims[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims)
        self.apply(_initialise)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``MODEL.BACKBONE`` into the constructor's arguments."""
        return {"size": cfg.MODEL.BACKBONE.SIZE, "drop_path": cfg.MODEL.BACKBONE.DROP_PATH}

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the normalised outputs of the four stages.

        Args:
            pixels: float ``[B, 3, H, W]``, normalised; H and W multiples of 32.

        Returns:
            ``res2`` to ``res5``: float ``[B, C, H / s, W / s]``, C of `channels`, s 4 to 32.
        """
        x = self.patch_norm(self.patch_embedding(pixels).permute(0, 2, 3, 1))
        maps = {}
        for index, name in enumerate(STAGES):
            if index:
                x = self.merges[index - 1](x)
            x = self.stages[index](x)
            maps[name] = self.norms[index](x).permute(0, 3, 1, 2)
        return maps


class SwinStage(nn.Module):
    """Blocks at one resolution, every second one with its windows shifted by half a window.

    Args:
        dim: channels.
        num_heads: of the attention.
        window: cells along the side of a window.
        drop_paths: chance that a residual branch is skipped in training, one for each block.
    """

    def __init__(self, dim: int, num_heads: int, window: int, drop_paths: list[float]) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            SwinBlock(dim, num_heads, window, shift=window // 2 * (index % 2), drop_path=rate)
            for index, rate in enumerate(drop_paths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks to float ``[B, h, w, C]``."""
        _, h, w, _ = x.shape
        mask = shifted_window_mask(h, w, self.window, device=x.device)
        for block in self.blocks:
            x = block(x, mask if block.shift else None)
        return x


class SwinBlock(nn.Module):
    """Attention in windows, then a hidden layer at each cell, both normalised first.

    Args:
        dim: channels.
        num_heads: of the attention.
        window: cells along the side of a window.
        shift: cells that the windows are moved by, right and down; 0 for none.
        drop_path: chance that either branch is skipped for a photo in training.
    """

    def __init__(
        self, dim: int, num_heads: int, window: int, *, shift: int, drop_path: float
    ) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.norm1 = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, num_heads, window)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, _MLP_RATIO * dim), nn.GELU(), nn.Linear(_MLP_RATIO * dim, dim)
        )
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Apply the block.

        Args:
            x: float ``[B, h, w, C]``.
            mask: of `shifted_window_mask` for a block with a shift, else None.
        """
        _, h, w, _ = x.shape
        # Zeros after the norm: cells of the padding are attended to, as the weights learned it.
        y = F.pad(self.norm1(x), (0, 0, 0, -w % self.window, 0, -h % self.window))
        padded_size = (y.shape[1], y.shape[2])
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = self.attention(split_windows(y, self.window), mask)
        y = join_windows(y, self.window, padded_size)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + self.drop_path(y[:, :h, :w])
        return x + self.drop_path(self.mlp(self.norm2(x)))


class WindowAttention(nn.Module):
    """Attention among the cells of a window, with a learned bias for each offset between two.

    Args:
        dim: channels.
        num_heads: the channels are split among them.
        window: cells along the side of a window.
    """

    offset_index: Tensor

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.offset_bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.offset_bias, std=0.02)
        self.register_buffer("offset_index", _offset_index(window), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within each window.

        Args:
            x: float ``[B, windows, N, C]``, the N cells of a window row by row.
            mask: bool ``[windows, 1, N, N]``, False where one cell must not see another.
        """
        B, windows, N, C = x.shape
        bias = self.offset_bias.T[:, self.offset_index].view(1, self.num_heads, N, N)
        if mask is not None:
            bias = torch.where(mask, bias, -torch.inf).repeat(B, 1, 1, 1)
        qkv = self.qkv(x).reshape(B * windows, N, 3, self.num_heads, C // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.project(out.transpose(1, 2).reshape(B, windows, N, C))


class PatchMerging(nn.Module):
    """Half the resolution at twice the channels: the four cells of a square side by side."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduce = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float ``[B, h, w, C]`` to ``[B, h / 2, w / 2, 2 C]``, h and w even."""
        B, h, w, C = x.shape
        # The published weights expect the squares column by column.
        squares = x.view(B, h // 2, 2, w // 2, 2, C).permute(0, 1, 3, 4, 2, 5)
        return self.reduce(self.norm(squares.reshape(B, h // 2, w // 2, 4 * C)))


def split_windows(x: Tensor, window: int) -> Tensor:
    """Cut ``[B, h, w, C]`` into ``[B, windows, window * window, C]``, both row by row."""
    B, h, w, C = x.shape
    x = x.view(B, h // window, window, w // window, window, C).transpose(2, 3)
    return x.reshape(B, -1, window * window, C)


def join_windows(x: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """Undo `split_windows` for maps of `size` (h, w)."""
    h, w = size
    x = x.view(x.shape[0], h // window, w // window, window, window, -1).transpose(2, 3)
    return x.reshape(x.shape[0], h, w, -1)


def shifted_window_mask(h: int, w: int, window: int, *, device: torch.device) -> Tensor:
    """Return which cells of a window are neighbours in the photo when windows are shifted.

    A shift by half a window moves cells around the edge to the other side of the map, next to
    cells that they have nothing to do with (section 3.2, "cyclic shift").

    Args:
        h: height of the map.
        w: width of the map.
        window: cells along the side of a window; the map is padded to whole windows.
        device: of the result.

    Returns:
        bool ``[windows, 1, N, N]``, windows and their N cells row by row.
    """
    rows, columns = (_shift_regions(length, window, device) for length in (h, w))
    regions = (3 * rows[:, None] + columns)[None, :, :, None]
    cells = split_windows(regions, window)[0]
    return (cells == cells.transpose(1, 2))[:, None]


def _shift_regions(length: int, window: int, device: torch.device) -> Tensor:
    """Number the parts of a padded side that lie together in the photo: 0, 1 or 2."""
    padded = length + -length % window
    place = torch.arange(padded, device=device)
    return (place >= padded - window).long() + (place >= padded - window // 2).long()


def _offset_index(window: int) -> Tensor:
    """Return the row of the bias table for each pair of cells, ``[N * N]``."""
    place = torch.arange(window)
    cells = torch.cartesian_prod(place, place)
    offsets = cells[:, None] - cells[None] + window - 1
    return ((2 * window - 1) * offsets[..., 0] + offsets[..., 1]).flatten()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
