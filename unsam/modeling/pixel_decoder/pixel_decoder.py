"""Pixel decoder of Mask2Former and of promptable UnSAM: deformable attention over all scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from unsam.modeling.layers import Mlp
from unsam.modeling.pixel_decoder.deformable_attention import DeformableAttention
from unsam.modeling.pixel_decoder.position import sine_position

_GROUPS = 32


@dataclass(frozen=True)
class PixelFeatures:
    """What a pixel decoder makes of a batch of photos.

    Attributes:
        mask_features: float ``[B, mask_dim, H / 4, W / 4]``; their product with the embedding of
            a mask gives its logits.
        levels: maps ``[B, dim, h, w]``, coarse first: 1/32, 1/16, 1/8 of the photo's size, with
            four levels 1/64 before them.
    """

    mask_features: Tensor
    levels: tuple[Tensor, ...]


class DeformablePixelDecoder(nn.Module):
    """Maps of a backbone to mask features and maps that have seen all scales.

    Cells at 1/8, 1/16 and 1/32 of the photo's size (and 1/64, by a convolution with stride 2)
    attend to each other in layers of deformable attention; the finest map, enlarged, is added to
    the backbone's map at 1/4 (Mask2Former, arXiv 2112.01527, section 4.1).

    Args:
        in_channels: channels of the backbone's maps res2 to res5.
        dim: channels of the maps, a multiple of 32 and of `num_heads`.
        mask_dim: channels of the mask features.
        num_levels: 3 or 4 scales.
        num_layers: layers of deformable attention.
        num_heads: heads of each.
        num_points: places that a head reads in each map.
        ffn_dim: hidden width of each layer's perceptron.
        fine_first: the order of the scales among the tokens, and so in `level_embedding`,
            `input_projections` and the weights of the attention. Promptable UnSAM has the finest
            first, Mask2Former the coarsest. The order of the result does not depend on it.

    Raises:
        ValueError: `num_levels` is not 3 or 4, or `dim` does not divide as it has to.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        dim: int = 256,
        mask_dim: int = 256,
        num_levels: int = 3,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        ffn_dim: int = 1024,
        fine_first: bool = False,
    ) -> None:
        super().__init__()
        if num_levels not in (3, 4):
            raise ValueError(f"num_levels is {num_levels}; a pixel decoder has 3 or 4 scales")
        if dim % _GROUPS:
            raise ValueError(f"dim is {dim}; its norms need a multiple of {_GROUPS}")
        res2, *coarser = in_channels
        self.fine_first = fine_first
        self.num_levels = num_levels
        projections = [ConvNorm(channels, dim, bias=True) for channels in coarser]
        if num_levels == 4:
            projections.append(ConvNorm(coarser[-1], dim, kernel_size=3, stride=2, bias=True))
        self.input_projections = nn.ModuleList(self._in_token_order(projections))
        self.level_embedding = nn.Parameter(torch.randn(num_levels, dim))
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(
                dim=dim,
                num_heads=num_heads,
                num_levels=num_levels,
                num_points=num_points,
                ffn_dim=ffn_dim,
            )
            for _ in range(num_layers)
        )
        self.lateral = ConvNorm(res2, dim)
        self.output = ConvNorm(dim, dim, kernel_size=3)
        self.mask_projection = nn.Conv2d(dim, mask_dim, kernel_size=1)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments that ``MODEL.PIXEL_DECODER`` sets, all but the backbone's channels.

        `fine_first` belongs to the architecture that the decoder is part of, and is left to it.
        """
        node = cfg.MODEL.PIXEL_DECODER
        return {
            "dim": node.DIM,
            "mask_dim": node.MASK_DIM,
            "num_levels": node.NUM_LEVELS,
            "num_layers": node.NUM_LAYERS,
            "num_heads": node.NUM_HEADS,
            "num_points": node.NUM_POINTS,
            "ffn_dim": node.FFN_DIM,
        }

    def forward(self, features: dict[str, Tensor]) -> PixelFeatures:
        """Return mask features and levels of the maps ``res2`` to ``res5`` of a backbone."""
        sources = [features["res3"], features["res4"], features["res5"]]
        if self.num_levels == 4:
            sources.append(features["res5"])
        maps = [
            project(source)
            for project, source in zip(
                self.input_projections, self._in_token_order(sources), strict=True
            )
        ]
        levels = self._attend(maps)
        if self.fine_first:
            levels = levels[::-1]
        lateral = self.lateral(features["res2"])
        # Interpolation is several times slower on a view of the tokens.
        finest = levels[-1].contiguous()
        enlarged = F.interpolate(
            finest, size=lateral.shape[-2:], mode="bilinear", align_corners=False
        )
        merged = F.relu(self.output(lateral + enlarged), inplace=True)
        mask_features = self.mask_projection(merged)
        return PixelFeatures(mask_features=mask_features, levels=tuple(levels))

    def _in_token_order(self, fine_to_coarse: list[Any]) -> list[Any]:
        return fine_to_coarse if self.fine_first else fine_to_coarse[::-1]

    def _attend(self, maps: list[Tensor]) -> list[Tensor]:
        """Let the cells of all maps ``[B, dim, h, w]`` attend to each other; same shapes."""
        shapes = [(level.shape[-2], level.shape[-1]) for level in maps]
        # The sums that run through all layers keep the precision of the weights under autocast.
        dtype = self.level_embedding.dtype
        tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1).to(dtype)
        position = torch.cat(
            [
                sine_position(*shape, tokens.shape[-1], device=tokens.device, dtype=dtype)
                + embedding
                for shape, embedding in zip(shapes, self.level_embedding, strict=True)
            ]
        )
        precise = torch.promote_types(dtype, torch.float32)
        reference = torch.cat(
            [_cell_centres(*shape, device=tokens.device, dtype=precise) for shape in shapes]
        )[None, :, None]
        for layer in self.layers:
            tokens = layer(tokens, position, reference, shapes)
        sizes = [height * width for height, width in shapes]
        return [
            part.transpose(1, 2).unflatten(2, shape)
            for part, shape in zip(tokens.split(sizes, dim=1), shapes, strict=True)
        ]


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention, then a perceptron; each is added, then normalised.

    Args:
        dim: channels of the tokens.
        num_heads: heads of the attention.
        num_levels: maps that the tokens are the cells of.
        num_points: places that a head reads in each map.
        ffn_dim: hidden width of the perceptron.
    """

    def __init__(
        self, *, dim: int, num_heads: int, num_levels: int, num_points: int, ffn_dim: int
    ) -> None:
        super().__init__()
        self.attention = DeformableAttention(
            dim=dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.attention_norm = nn.LayerNorm(dim)
        self.mlp = Mlp((dim, ffn_dim, dim))
        self.mlp_norm = nn.LayerNorm(dim)
        for name, parameter in self.mlp.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        tokens: Tensor,
        position: Tensor,
        reference: Tensor,
        shapes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Return the tokens ``[B, S, dim]`` after the layer.

        Args:
            tokens: ``[B, S, dim]``, the cells of all maps.
            position: ``[S, dim]``, added to the tokens where they ask, not where they answer.
            reference: ``[1, S, 1, 2]``, centres of the cells, x and y as shares of the map.
            shapes: height and width of the maps.
        """
        read = self.attention(tokens + position, reference, tokens, shapes)
        tokens = self.attention_norm(tokens + read)
        return self.mlp_norm(tokens + self.mlp(tokens))


class ConvNorm(nn.Module):
    """A convolution that keeps the size (divided by `stride`), then a group norm of 32 groups.

    Args:
        in_channels: channels that come.
        out_channels: channels that leave, a multiple of 32.
        kernel_size: odd side of the kernel.
        stride: step of the kernel.
        bias: whether the convolution has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=bias
        )
        self.norm = nn.GroupNorm(_GROUPS, out_channels)
        nn.init.xavier_uniform_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, h, w]`` to ``[B, out_channels, h / stride, w / stride]``."""
        return self.norm(self.conv(x))


def _cell_centres(height: int, width: int, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the centres of the cells of a map, ``[height * width, 2]``, x and y in [0, 1]."""
    y = (torch.arange(height, device=device, dtype=dtype) + 0.5) / height
    x = (torch.arange(width, device=device, dtype=dtype) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
