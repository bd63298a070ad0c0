"""SAM's image encoder: a plain vision transformer with windows and relative positions."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from segment_anything.modeling.image_encoder import Attention, Block, ImageEncoderViT
from torch import Tensor, nn
from torch.nn import functional as F

ENCODERS: dict[str, dict[str, Any]] = {
    "base": {"embed_dim": 768, "depth": 12, "num_heads": 12, "global_blocks": (2, 5, 8, 11)},
    "large": {"embed_dim": 1024, "depth": 24, "num_heads": 16, "global_blocks": (5, 11, 17, 23)},
    "huge": {"embed_dim": 1280, "depth": 32, "num_heads": 16, "global_blocks": (7, 15, 23, 31)},
}
"""The image encoders that were released: ViT-B, ViT-L, ViT-H."""

_WINDOW = 14
_QUERY_ROWS = 8


class SamImageEncoder(ImageEncoderViT):
    """segment-anything's encoder (ViTDet, arXiv 2203.16527), with its names and parameters.

    The fused computation adds the relative positions (decomposed into rows and columns, MViTv2,
    arXiv 2112.01526, §4.1) as a bias inside torch's attention, a few rows of queries at a time,
    instead of building the attention maps of all heads, and leaves the padding of the windows out
    of the linear layers.

    Args:
        embed_dim: channels of the blocks.
        depth: number of blocks.
        num_heads: heads of each.
        global_blocks: indices of the blocks that attend to all cells, not to windows of 14 x 14.
        image_size: side of the square input in pixels, a multiple of 16, at least 32.
        out_dim: channels of the embedding.
        fused: compute attention by torch's fused kernels. False is segment-anything's own
            computation, to the last bit.

    Raises:
        ValueError: `image_size` is no multiple of 16, or under 32.
    """

    stride = 16

    def __init__(
        self,
        *,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        global_blocks: tuple[int, ...] = (2, 5, 8, 11),
        image_size: int = 1024,
        out_dim: int = 256,
        fused: bool = True,
    ) -> None:
        if image_size < 2 * self.stride or image_size % self.stride:
            raise ValueError(
                f"INPUT.IMAGE_SIZE of SAM is a multiple of {self.stride}, at least "
                f"{2 * self.stride}, got {image_size}"
            )
        super().__init__(
            img_size=image_size,
            patch_size=self.stride,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            out_chans=out_dim,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=_WINDOW,
            global_attn_indexes=global_blocks,
        )
        self.embed_dim = out_dim
        if fused:
            for block in self.blocks:
                # The library builds its blocks itself; ours differ in how they compute alone.
                block.__class__ = FusedBlock

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode normalised photos.

        Args:
            pixels: float ``[B, 3, S, S]`` with S the `image_size`, zero in the padding.

        Returns:
            float ``[B, out_dim, S / 16, S / 16]``.
        """
        return super().forward(pixels)


class FusedBlock(Block):
    """A block of segment-anything that attends by torch's fused kernels."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to ``[B, h, w, C]``."""
        x = x + _attend(self.attn, self.norm1(x), self.window_size)
        return x + self.mlp(self.norm2(x))


def _attend(attention: Attention, x: Tensor, window: int) -> Tensor:
    """Apply one attention of segment-anything to ``[B, h, w, C]``; window 0 is the whole map."""
    B, h, w, C = x.shape
    qkv = attention.qkv(x)
    if window == 0:
        return attention.proj(_attend_map(attention, qkv))
    height, width = -(-h // window) * window, -(-w // window) * window
    if (height, width) != (h, w):
        # The published windows attend to their padding, zeros before the linear layer.
        padded = attention.qkv.bias.to(qkv.dtype).expand(B, height, width, -1).clone()
        padded[:, :h, :w] = qkv
        qkv = padded
    rows, columns = height // window, width // window
    qkv = qkv.reshape(B, rows, window, columns, window, 3 * C).transpose(2, 3)
    out = _attend_map(attention, qkv.reshape(-1, window, window, 3 * C))
    out = out.reshape(B, rows, columns, window, window, C).transpose(2, 3)
    return attention.proj(out.reshape(B, height, width, C)[:, :h, :w])


def _attend_map(attention: Attention, qkv: Tensor) -> Tensor:
    """Attend within each of N maps, ``[N, h, w, 3 C]`` to ``[N, h, w, C]``."""
    N, h, w, _ = qkv.shape
    heads = attention.num_heads
    q, k, v = qkv.reshape(N, h * w, 3, heads, -1).permute(2, 0, 3, 1, 4)
    per_row = q.unflatten(2, (h, w))
    by_row = torch.einsum("nahwd,hkd->nahwk", per_row, _distances(attention.rel_pos_h, h))
    by_column = torch.einsum("nahwd,wkd->nahwk", per_row, _distances(attention.rel_pos_w, w))
    parts = []
    for start in range(0, h, _QUERY_ROWS):
        rows = slice(start, start + _QUERY_ROWS)
        bias = by_row[:, :, rows, :, :, None] + by_column[:, :, rows, :, None, :]
        bias = bias.flatten(4, 5).flatten(2, 3)
        some = per_row[:, :, rows].flatten(2, 3)
        parts.append(F.scaled_dot_product_attention(some, k, v, attn_mask=bias.to(q.dtype)))
    out = torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
    return out.transpose(1, 2).reshape(N, h, w, -1)


def _distances(table: Tensor, size: int) -> Tensor:
    """Return the embedding of query minus key position, ``[L, d]`` to ``[size, size, d]``.

    A table for maps of another size is interpolated.
    """
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None], 2 * size - 1, mode="linear", align_corners=False)[0].T
    position = torch.arange(size, device=table.device)
    return table[position[:, None] - position[None, :] + size - 1]
