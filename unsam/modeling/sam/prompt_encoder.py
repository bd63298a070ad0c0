"""Points, boxes and masks to the tokens and the dense embedding of SAM's mask decoder."""

from __future__ import annotations

import math

import torch
from segment_anything.modeling import PromptEncoder
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.prompts import BOX_FIRST, PADDING, Prompts


class SamPromptEncoder(PromptEncoder):
    """segment-anything's prompt encoder, with its names and parameters, for many prompts at once.

    The tokens of a prompt are its clicks, then its box; a prompt of clicks alone is closed by one
    token for "no further point". `PADDING` points are hidden from the decoder (published SAM knows
    no such points; the label -1 there is the closing token).

    Args:
        embed_dim: channels of the tokens.
        image_size: side of the square input in pixels.
        stride: pixels per cell of the image embedding.
        mask_dim: hidden channels of the network that reads masks.
    """

    def __init__(
        self, *, embed_dim: int = 256, image_size: int = 1024, stride: int = 16, mask_dim: int = 16
    ) -> None:
        cells = image_size // stride
        super().__init__(
            embed_dim=embed_dim,
            image_embedding_size=(cells, cells),
            input_image_size=(image_size, image_size),
            mask_in_chans=mask_dim,
        )

    def tokens(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Embed the points of P prompts.

        Returns:
            Tokens float ``[P, T, C]``, and bool ``[P, T]``, False for tokens that are hidden from
            the decoder.
        """
        labels = prompts.labels
        is_corner, is_click = labels >= BOX_FIRST, (labels != PADDING) & (labels < BOX_FIRST)
        is_closed = is_click.any(1) & ~is_corner.any(1)
        points = F.pad(prompts.points, (0, 0, 0, 1))
        labels = F.pad(labels, (0, 1), value=PADDING)
        real = torch.cat((is_click | is_corner, is_closed[:, None]), dim=1)
        if torch.compiler.is_compiling():
            # A compiled graph cannot depend on values: it keeps the columns that all hide.
            return self._embed(points, labels), real
        boxes = (labels >= BOX_FIRST).any(0)
        used = real.any(0)
        # Boxes apart, as published: how a product rounds depends on its number of rows.
        columns = [(used & ~boxes).nonzero()[:, 0], (used & boxes).nonzero()[:, 0]]
        tokens = [self._embed(points[:, some], labels[:, some]) for some in columns]
        return torch.cat(tokens, dim=1), real[:, torch.cat(columns)]

    def dense(self, mask_logits: Tensor | None) -> Tensor:
        """Embed the mask prompts ``[P, h, w]``: ``[P, C, h / 4, w / 4]``; of none ``[1, C, 1, 1]``.

        Raises:
            ValueError: another size.
        """
        if mask_logits is None:
            return self.no_mask_embed.weight[:, :, None, None]
        if tuple(mask_logits.shape[-2:]) != self.mask_input_size:
            height, width = self.mask_input_size
            raise ValueError(
                f"mask prompts are [P, {height}, {width}], got {tuple(mask_logits.shape)}; pass "
                "the logits of an earlier answer"
            )
        weight = self.mask_downscaling[0].weight
        return self.mask_downscaling(mask_logits[:, None].to(weight.dtype))

    def position(self) -> Tensor:
        """Return the position encoding of the cells of the embedding, ``[C, h, w]``."""
        height, width = self.image_embedding_size
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        y = (torch.arange(1, height + 1, device=matrix.device).to(matrix.dtype) - 0.5) / height
        x = (torch.arange(1, width + 1, device=matrix.device).to(matrix.dtype) - 0.5) / width
        at = torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), dim=-1)
        return self._encode(at).permute(2, 0, 1)

    def _embed(self, points: Tensor, labels: Tensor) -> Tensor:
        height, width = self.input_image_size
        dtype = self.pe_layer.positional_encoding_gaussian_matrix.dtype
        shares = points.to(dtype) / points.new_tensor((width, height)).to(dtype)
        position = self._encode(shares).masked_fill((labels == PADDING)[..., None], 0.0)
        kinds = (self.not_a_point_embed, *self.point_embeddings)
        table = torch.cat([embedding.weight for embedding in kinds])
        return position + table[labels - PADDING]

    def _encode(self, shares: Tensor) -> Tensor:
        """Return random Fourier features of points in [0, 1], ``[..., 2]`` to ``[..., C]``."""
        # The frequencies are high: bfloat16 would move the points by many pixels.
        with torch.autocast(shares.device.type, enabled=False):
            angles = (2 * shares - 1) @ self.pe_layer.positional_encoding_gaussian_matrix
            angles = 2 * math.pi * angles
            return torch.cat((angles.sin(), angles.cos()), dim=-1)
