"""Attention between prompt tokens and image cells, in both directions (SAM's decoder)."""

from __future__ import annotations

from torch import Tensor, nn

from unsam.modeling.layers import Mlp, attend
from unsam.modeling.prompts import spread


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than its outer width.

    Args:
        dim: channels of queries, keys, values and output.
        num_heads: heads; they share the inner width equally.
        downsample_rate: outer width divided by inner width.
    """

    def __init__(self, dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner = dim // downsample_rate
        assert inner % num_heads == 0, f"{inner} channels do not divide into {num_heads} heads"
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

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
        """Attend from ``q [P, Nq, C]`` to ``k`` and ``v [P, Nk, C]``; return ``[P, Nq, C]``.

        Args:
            q: queries.
            k: keys.
            v: values.
            real: bool ``[P, Nk]``, False for keys that nothing may attend to.
            q_owner: int64 ``[P]`` when the queries come once per photo, ``[B, Nq, C]``: the photo
                of each prompt. They are projected per photo and spread over the prompts after.
            k_owner: the same for keys and values.
        """
        heads = (
            self._split(self.q_proj(q), q_owner),
            self._split(self.k_proj(k), k_owner),
            self._split(self.v_proj(v), k_owner),
        )
        mask = None if real is None else real[:, None, None]
        attended = attend(*heads, mask)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor, owner: Tensor | None) -> Tensor:
        if owner is not None:
            x = spread(x, owner)
        P, N, inner = x.shape
        return x.reshape(P, N, self.num_heads, inner // self.num_heads).transpose(1, 2)


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves, then to the image, pass an MLP; the image attends to them."""

    def __init__(
        self, dim: int, num_heads: int, mlp_dim: int, downsample_rate: int, is_first: bool
    ) -> None:
        super().__init__()
        self.is_first = is_first
        self.self_attn = Attention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, num_heads, downsample_rate)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp((dim, mlp_dim, dim))
        self.norm3 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, num_heads, downsample_rate)
        self.norm4 = nn.LayerNorm(dim)

    def forward(
        self,
        tokens: Tensor,
        cells: Tensor,
        token_position: Tensor,
        cell_position: Tensor,
        real: Tensor,
        owner: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return updated tokens ``[P, T, C]`` and cells ``[P, N, C]``; see `TwoWayTransformer`."""
        if self.is_first:
            # The tokens still are their own position encoding.
            tokens = self.self_attn(tokens, tokens, tokens, real=real)
        else:
            q = tokens + token_position
            tokens = tokens + self.self_attn(q, q, tokens, real=real)
        tokens = self.norm1(tokens)
        keys = cells + cell_position
        attended = self.cross_attn_token_to_image(
            tokens + token_position, keys, cells, k_owner=owner
        )
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))
        attended = self.cross_attn_image_to_token(
            keys, tokens + token_position, tokens, real=real, q_owner=owner
        )
        if owner is not None:
            cells = spread(cells, owner)
        return tokens, self.norm4(cells + attended)


class TwoWayTransformer(nn.Module):
    """A stack of `TwoWayBlock`, closed by one more attention from the tokens to the image.

    Args:
        depth: number of blocks, at least 1.
        dim: channels of tokens and cells.
        num_heads: heads of every attention.
        mlp_dim: hidden width of the tokens' MLP.
        downsample_rate: outer by inner width of the attentions between tokens and image.
    """

    def __init__(
        self, *, depth: int, dim: int, num_heads: int, mlp_dim: int, downsample_rate: int = 2
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(dim, num_heads, mlp_dim, downsample_rate, is_first=index == 0)
            for index in range(depth)
        )
        self.final_attn_token_to_image = Attention(dim, num_heads, downsample_rate)
        self.norm_final = nn.LayerNorm(dim)

    def forward(
        self,
        tokens: Tensor,
        cells: Tensor,
        cell_position: Tensor,
        real: Tensor,
        owner: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Let tokens and cells exchange what they know.

        Args:
            tokens: float ``[P, T, C]``.
            cells: float ``[P, N, C]``; or ``[B, N, C]``, with `owner`, when all prompts of a photo
                start from the same cells: the first projections are then made once per photo.
            cell_position: float ``[N, C]``.
            real: bool ``[P, T]``, False for padding tokens, which nothing attends to.
            owner: int64 ``[P]``, the photo of each prompt; None when cells come per prompt.

        Returns:
            Tokens ``[P, T, C]`` and cells ``[P, N, C]``.
        """
        token_position = tokens
        for layer in self.layers:
            tokens, cells = layer(tokens, cells, token_position, cell_position, real, owner)
            owner = None
        attended = self.final_attn_token_to_image(
            tokens + token_position, cells + cell_position, cells, k_owner=owner
        )
        return self.norm_final(tokens + attended), cells
