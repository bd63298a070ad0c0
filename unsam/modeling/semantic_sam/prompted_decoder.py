"""Decoder of prompts that are boxes: several tokens each, boxes refined from layer to layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from unsam.modeling.layers import Mlp
from unsam.modeling.pixel_decoder import DeformableAttention

_TEXT_DIM = 512
_TEMPERATURE = 10000.0
_BOX_EPSILON = 1e-5

Shapes = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class TokenStates:
    """The tokens of P prompts, M each, after one layer.

    Attributes:
        hidden: float ``[P, M, C]``, normalised, as the heads read them.
        boxes: float ``[P, M, 4]``, centre x, centre y, width, height of what the token segments,
            as fractions of the padded input.
    """

    hidden: Tensor
    boxes: Tensor


class TokenAttention(nn.Module):
    """Self-attention among the M tokens of each prompt; prompts never see each other.

    Queries and keys are of the tokens with their positions, values of the tokens alone.

    Args:
        dim: channels of the tokens.
        num_heads: heads, a divisor of `dim`.
    """

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens: Tensor, position: Tensor) -> Tensor:
        """Return what ``[P, M, C]`` tokens gather from each other, ``[P, M, C]``."""
        P, M, C = tokens.shape
        weight, bias = self.in_proj.weight, self.in_proj.bias
        qk = F.linear(tokens + position, weight[: 2 * C], bias[: 2 * C])
        v = F.linear(tokens, weight[2 * C :], bias[2 * C :])
        q, k, v = (
            part.reshape(P, M, self.num_heads, C // self.num_heads).transpose(1, 2)
            for part in (*qk.chunk(2, dim=-1), v)
        )
        gathered = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(gathered.transpose(1, 2).reshape(P, M, C))


class PromptedDecoderLayer(nn.Module):
    """Self-attention, deformable attention to the photo, feed-forward; each normalised after.

    Args:
        dim: channels of the tokens and of the photo's maps.
        num_heads: heads of both attentions.
        num_levels: maps of the photo.
        num_points: points per head and map.
        ffn_dim: hidden width of the feed-forward network.
    """

    def __init__(
        self, *, dim: int, num_heads: int, num_levels: int, num_points: int, ffn_dim: int
    ) -> None:
        super().__init__()
        self.self_attention = TokenAttention(dim=dim, num_heads=num_heads)
        self.self_norm = nn.LayerNorm(dim)
        self.cross_attention = DeformableAttention(
            dim=dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.cross_norm = nn.LayerNorm(dim)
        self.ffn = Mlp((dim, ffn_dim, dim))
        self.ffn_norm = nn.LayerNorm(dim)

    def forward(
        self, tokens: Tensor, position: Tensor, boxes: Tensor, values: Tensor, shapes: Shapes
    ) -> Tensor:
        """Return the tokens ``[P, M, C]`` after this layer.

        Args:
            tokens: ``[P, M, C]``.
            position: ``[P, M, C]``, where the tokens are.
            boxes: ``[P, M, 4]``, where they look for.
            values: ``[S, C]``, this layer's values of one photo, see `PromptedDecoder.values`.
            shapes: ``(h, w)`` of each map.
        """
        tokens = self.self_norm(tokens + self.self_attention(tokens, position))
        query = (tokens + position).flatten(0, 1)[None]
        reference = boxes.flatten(0, 1)[None, :, None]
        taken = self.cross_attention.read_values(query, reference, values[None], shapes)
        tokens = self.cross_norm(tokens + taken.view_as(tokens))
        return self.ffn_norm(tokens + self.ffn(tokens))


class PromptedDecoder(nn.Module):
    """Prompts that are boxes to M masks each (Semantic-SAM, Li et al. 2023; after DINO-DETR).

    Each prompt becomes M tokens that differ only in a learned vector. In every layer the tokens of
    one prompt attend to each other and to a few points of the photo around their box, which each
    token then refines for the next layer. Heads read the mask, its box and its quality.

    Prompts are independent of each other. (The published training and evaluation isolate them
    too; the published demo does not, so there clicks that are asked together differ from the same
    clicks asked one by one.)

    Args:
        dim: channels of the tokens and of the photo's maps.
        mask_dim: channels of the mask features.
        num_tokens: M, masks per prompt.
        num_layers: layers.
        num_heads: heads of the attentions.
        num_levels: maps of the photo.
        num_points: points per head and map.
        ffn_dim: hidden width of the feed-forward networks.
        double_norm: normalise the tokens twice, with the same weights, before the heads read
            them. A slip of the published code that its weights depend on.
    """

    class_embed: Tensor
    class_embed_part: Tensor
    lang_mapper: Tensor

    def __init__(
        self,
        *,
        dim: int = 256,
        mask_dim: int = 256,
        num_tokens: int = 6,
        num_layers: int = 9,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        ffn_dim: int = 2048,
        double_norm: bool = True,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.num_tokens = num_tokens
        self.double_norm = double_norm
        self.label_embedding = nn.Embedding(2, dim)
        self.kind_embedding = nn.Embedding(2, dim)
        self.mask_tokens = nn.Embedding(num_tokens, dim)
        self.position_mlp = Mlp((2 * dim, dim, dim))
        self.layers = nn.ModuleList(
            PromptedDecoderLayer(
                dim=dim,
                num_heads=num_heads,
                num_levels=num_levels,
                num_points=num_points,
                ffn_dim=ffn_dim,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.box_head = Mlp((dim, dim, dim, 4))
        self.mask_head = Mlp((dim, dim, dim, mask_dim))
        self.quality_head = Mlp((dim, dim, dim, 1))
        # An untrained head leaves every box where it is.
        for parameter in self.box_head.layers[-1].parameters():
            nn.init.zeros_(parameter)
        # Class heads of Semantic-SAM. They are not used; files that others read must have them.
        self.register_buffer("class_embed", torch.zeros(dim, _TEXT_DIM))
        self.register_buffer("class_embed_part", torch.zeros(dim, _TEXT_DIM))
        self.register_buffer("lang_mapper", torch.zeros(_TEXT_DIM, dim))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``MODEL.PROMPTED_DECODER`` into the constructor's arguments."""
        node, pixel = cfg.MODEL.PROMPTED_DECODER, cfg.MODEL.PIXEL_DECODER
        return {
            "dim": pixel.DIM,
            "mask_dim": pixel.MASK_DIM,
            "num_tokens": node.NUM_TOKENS,
            "num_layers": node.NUM_LAYERS,
            "num_heads": node.NUM_HEADS,
            "num_levels": pixel.NUM_LEVELS,
            "num_points": node.NUM_POINTS,
            "ffn_dim": node.FFN_DIM,
        }

    def values(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return what the layers read of photos, to be computed once for all prompts.

        It takes several times as long as answering a click.

        Args:
            levels: maps ``[B, C, h, w]``, coarse first. (The published pixel decoder has them fine
                first, and its decoder turns them round.)

        Returns:
            ``[B, S, C]`` for each layer: the cells of all maps, one map after the other.
        """
        memory = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        layers = cast("list[PromptedDecoderLayer]", self.layers)
        return tuple(layer.cross_attention.value_proj(memory) for layer in layers)

    def forward(
        self, boxes: Tensor, kinds: Tensor, values: Sequence[Tensor], shapes: Shapes
    ) -> list[TokenStates]:
        """Return the tokens of P prompts about one photo after each layer.

        Args:
            boxes: float ``[P, 4]``, centre x, centre y, width, height as fractions of the padded
                input.
            kinds: int64 ``[P]``, rows of the prompt kind embedding.
            values: ``[S, C]`` for each layer, see `values`, of the photo.
            shapes: ``(h, w)`` of each map.

        Returns:
            One entry per layer in training, in evaluation the last layer alone.
        """
        P, M = len(boxes), self.num_tokens
        prompt = self.label_embedding.weight[0] + self.kind_embedding(kinds)
        tokens = prompt[:, None] + self.mask_tokens.weight
        # `exact` has the gradient of the layer before, `boxes` not (DINO's look forward twice).
        exact = boxes = inverse_sigmoid(boxes).sigmoid()[:, None].expand(P, M, 4)
        states = []
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            position = self.position_mlp(box_position(boxes, self.dim // 2))
            tokens = layer(tokens, position, boxes, values[index], shapes)
            if self.training or index == last:
                hidden = self.norm(tokens)
                if self.double_norm:
                    hidden = self.norm(hidden)
                states.append(TokenStates(hidden, self._move(exact, hidden)))
            if index < last:
                exact = self._move(boxes, tokens)
                boxes = exact.detach()
        return states

    def answers(self, hidden: Tensor, mask_features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the masks and the quality of tokens about one photo.

        Args:
            hidden: ``[..., C]``, see `TokenStates`.
            mask_features: ``[mask_dim, h, w]``.

        Returns:
            Mask logits ``[..., h, w]``; predicted ``1 - dice loss`` ``[...]``, not bounded. Both
            float32 under autocast.
        """
        kernels = self.mask_head(hidden)
        logits = kernels.flatten(0, -2) @ mask_features.flatten(1)
        logits = logits.view(*hidden.shape[:-1], *mask_features.shape[-2:])
        quality = self.quality_head(hidden)[..., 0]
        dtype = torch.promote_types(self.mask_tokens.weight.dtype, torch.float32)
        return logits.to(dtype), quality.to(dtype)

    def _move(self, boxes: Tensor, tokens: Tensor) -> Tensor:
        """Return boxes ``[P, M, 4]`` as their tokens ``[P, M, C]`` correct them."""
        return (self.box_head(tokens) + inverse_sigmoid(boxes)).sigmoid()


def inverse_sigmoid(x: Tensor) -> Tensor:
    """Return the logits of values in [0, 1], finite at both ends."""
    return (x.clamp(min=_BOX_EPSILON) / (1 - x).clamp(min=_BOX_EPSILON)).log()


def box_position(boxes: Tensor, dim: int) -> Tensor:
    """Return sines and cosines of boxes (DAB-DETR, §3.2; Liu et al. 2022).

    Args:
        boxes: ``[..., 4]``, centre x, centre y, width, height in [0, 1].
        dim: even, channels per coordinate.

    Returns:
        ``[..., 4 * dim]``: of y, x, width, height one after the other, sine and cosine in turn.
    """
    exponents = torch.arange(dim // 2, device=boxes.device, dtype=boxes.dtype) / (dim // 2)
    angles = boxes[..., [1, 0, 2, 3], None] * (2 * math.pi) * _TEMPERATURE**-exponents
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-3)
