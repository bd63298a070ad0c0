"""Attention of queries, to each other and to the inside of the masks that they predicted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Pairs of query and position whose mask exists at a time; bounds memory, costs no time.
_PAIRS_AT_ONCE = 2**24


@dataclass(frozen=True)
class PredictedMasks:
    """The masks that queries predicted, as the attention mask of the layer that follows.

    Kept as the two factors of their logits, so that 2,000 masks of a map exist only for the
    queries at hand.

    Attributes:
        embeddings: ``[B, N, C]``, one per query.
        features: ``[B, C, S]``, mask features at the S positions that are attended to.
    """

    embeddings: Tensor
    features: Tensor

    @torch.no_grad()
    def inside(self, start: int, stop: int) -> Tensor:
        """Return the positions that queries `start` to `stop` may attend to, bool ``[B, n, S]``.

        Those with a probability of at least 0.5 (Mask2Former, Cheng et al. 2022, Eq. 3). That is a
        logit of at least 0; the sigmoid would only add its rounding. A query whose mask is empty
        attends to all positions, for a softmax over nothing is not defined.
        """
        inside = self.embeddings[:, start:stop] @ self.features >= 0
        return inside | ~inside.any(dim=-1, keepdim=True)


class QueryAttention(nn.Module):
    """Multi-head attention with biases, ``[B, N, C]`` queries to ``[B, S, C]`` keys and values.

    Args:
        dim: channels C.
        num_heads: heads.

    Raises:
        ValueError: `dim` is no multiple of `num_heads`.
    """

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"{num_heads} heads do not divide {dim} channels; change either")
        self.num_heads = num_heads
        # Of queries, keys and values, in this order.
        self.in_projection = nn.Linear(dim, 3 * dim)
        self.out_projection = nn.Linear(dim, dim)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, masks: PredictedMasks | None = None
    ) -> Tensor:
        """Return ``[B, N, C]``.

        Args:
            query: ``[B, N, C]``.
            key: ``[B, S, C]``.
            value: ``[B, S, C]``.
            masks: where each query may look; None for everywhere.
        """
        weights = self.in_projection.weight.chunk(3)
        biases = self.in_projection.bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        if masks is None:
            attended = F.scaled_dot_product_attention(q, k, v)
        else:
            step = max(1, _PAIRS_AT_ONCE // (len(key) * key.shape[1]))
            parts = []
            for start in range(0, query.shape[1], step):
                some = q[:, :, start : start + step]
                inside = masks.inside(start, start + step)[:, None]
                parts.append(F.scaled_dot_product_attention(some, k, v, attn_mask=inside))
            attended = torch.cat(parts, dim=2)
        return self.out_projection(attended.transpose(1, 2).flatten(2))
