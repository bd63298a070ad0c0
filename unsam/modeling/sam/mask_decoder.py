"""SAM's mask decoder, with an additional mask token for a granularity (UnSAMv2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from segment_anything.modeling import MaskDecoder
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.granular_parts import GranularityParts
from unsam.modeling.layers import upscale_cells
from unsam.modeling.prompts import spread
from unsam.modeling.two_way_transformer import Attention, TwoWayTransformer

LORA_LAYERS = r".*\.(q|k|v|out)_proj"
"""The linear layers of the transformer that learn granularity (UnSAMv2's code): 28."""


@dataclass(frozen=True)
class DecoderInput:
    """P prompts on B photos, embedded.

    Attributes:
        embedding: of the photos, float ``[B, C, h, w]``.
        position: of their cells, float ``[C, h, w]``.
        tokens: of the prompts, float ``[P, T, C]``.
        real: bool ``[P, T]``, False for tokens that nothing attends to.
        dense: of mask prompts, float ``[P, C, h, w]``, or ``[1, C, 1, 1]`` of none; added to the
            embedding.
        image_of_prompt: int64 ``[P]``.
    """

    embedding: Tensor
    position: Tensor
    tokens: Tensor
    real: Tensor
    dense: Tensor
    image_of_prompt: Tensor


class SamMaskDecoder(MaskDecoder):
    """segment-anything's mask decoder, with its parameters, on prompts of several photos.

    The fused computation projects what the prompts of a photo share once per photo, and upscales
    cell by cell without ever rearranging a map of full resolution.

    Args:
        dim: channels of tokens and cells.
        depth: blocks of the two-way transformer.
        num_heads: heads of its attentions.
        mlp_dim: hidden width of its perceptrons.
        fused: False computes plain answers as segment-anything does, to the last bit.
    """

    def __init__(
        self,
        *,
        dim: int = 256,
        depth: int = 2,
        num_heads: int = 8,
        mlp_dim: int = 2048,
        fused: bool = True,
    ) -> None:
        transformer = TwoWayTransformer(depth=depth, dim=dim, num_heads=num_heads, mlp_dim=mlp_dim)
        super().__init__(transformer_dim=dim, transformer=transformer, iou_head_hidden_dim=dim)
        self.fused = fused
        if not fused:
            _compute_explicitly(transformer)

    def forward(self, inputs: DecoderInput, slots: slice) -> tuple[Tensor, Tensor]:
        """Answer P prompts on B photos as plain SAM.

        Args:
            inputs: photos and prompts.
            slots: which of SAM's four masks; the first is the single answer.

        Returns:
            Logits ``[P, M, 4 h, 4 w]`` and predicted IoU ``[P, M]``.
        """
        own = torch.cat((self.iou_token.weight, self.mask_tokens.weight))
        tokens, cells = self._interact(own, inputs)
        quality = self.iou_prediction_head(tokens[:, 0])[:, slots]
        computed = slots if self.fused else slice(None)
        weights = [
            self.output_hypernetworks_mlps[i](tokens[:, 1 + i])
            for i in range(self.num_mask_tokens)[computed]
        ]
        logits = self._masks(cells, torch.stack(weights, dim=1), inputs.embedding.shape[-2:])
        return (logits if self.fused else logits[:, slots]), quality

    def answer_granularity(
        self, inputs: DecoderInput, parts: GranularityParts
    ) -> tuple[Tensor, Tensor]:
        """Answer P prompts with one mask each, at the granularity that is among their tokens.

        The decoder's own tokens are SAM's and the granularity mask token.

        Args:
            inputs: photos and prompts, with a token of `GranularityParts.encoding` each.
            parts: the granularity mask token and its networks.

        Returns:
            Logits ``[P, 4 h, 4 w]`` and predicted IoU ``[P]``.
        """
        own = torch.cat((self.iou_token.weight, self.mask_tokens.weight, parts.mask_token))
        tokens, cells = self._interact(own, inputs)
        mask_token = tokens[:, 1 + self.num_mask_tokens]
        quality = parts.quality(tokens[:, 0], mask_token)
        if quality is None:
            quality = self.iou_prediction_head(tokens[:, 0])[:, 0]
        weights = parts.hypernetwork(mask_token)[:, None]
        return self._masks(cells, weights, inputs.embedding.shape[-2:])[:, 0], quality

    def _interact(self, own: Tensor, inputs: DecoderInput) -> tuple[Tensor, Tensor]:
        """Run the two-way transformer; return tokens ``[P, T, C]`` and cells ``[P, h * w, C]``."""
        P = len(inputs.tokens)
        own = own.to(inputs.tokens.dtype).expand(P, -1, -1)
        tokens = torch.cat((own, inputs.tokens), dim=1)
        real = torch.cat((inputs.real.new_ones(P, own.shape[1]), inputs.real), dim=1)
        cells = inputs.embedding.flatten(2).transpose(1, 2)
        if self.fused:
            # Channels last in memory too, once per photo, or every sum below inherits the order.
            cells = cells.contiguous()
        owner: Tensor | None = inputs.image_of_prompt
        if not self.fused or inputs.dense.shape[-1] > 1:
            cells, owner = spread(cells, inputs.image_of_prompt), None
        cells = cells + inputs.dense.flatten(2).transpose(1, 2)
        return self.transformer(tokens, cells, inputs.position.flatten(1).T, real, owner)

    def _masks(self, cells: Tensor, weights: Tensor, size: torch.Size) -> Tensor:
        """Upscale cells ``[P, h * w, C]`` four times; dot products with ``weights [P, M, c]``."""
        P, (h, w), M = len(cells), size, weights.shape[1]
        if not self.fused:
            upscaled = self.output_upscaling(cells.transpose(1, 2).unflatten(2, (h, w)))
            return (weights @ upscaled.flatten(2)).unflatten(2, (4 * h, 4 * w))
        first, norm, _, second, _ = self.output_upscaling
        x = upscale_cells(cells, first).unflatten(2, (4, -1))
        x = F.gelu(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))
        x = F.gelu(upscale_cells(x.flatten(1, 2), second)).unflatten(2, (4, -1)).flatten(1, 2)
        logits = (weights.to(x.dtype) @ x.transpose(1, 2)).reshape(P, M, h, w, 2, 2, 2, 2)
        return logits.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(P, M, 4 * h, 4 * w)


class _ExplicitAttention(Attention):
    """`Attention` by matrix products and a softmax, as segment-anything computes it."""

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        real: Tensor | None = None,
        q_owner: Tensor | None = None,
        k_owner: Tensor | None = None,
    ) -> Tensor:
        """Attend as `Attention` does."""
        q = self._split(self.q_proj(q), q_owner)
        k = self._split(self.k_proj(k), k_owner)
        v = self._split(self.v_proj(v), k_owner)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        if real is not None:
            scores = scores.masked_fill(~real[:, None, None], -math.inf)
        attended = scores.softmax(-1) @ v
        return self.out_proj(attended.transpose(1, 2).flatten(2))


def _compute_explicitly(transformer: TwoWayTransformer) -> None:
    """Replace the attentions of a transformer that has no trained weights yet."""
    fused = [(name, m) for name, m in transformer.named_modules() if isinstance(m, Attention)]
    for name, module in fused:
        dim, inner = module.q_proj.in_features, module.q_proj.out_features
        transformer.set_submodule(name, _ExplicitAttention(dim, module.num_heads, dim // inner))
