"""What every image encoder promises."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class EncodedImages:
    """The features of a batch of photos of one padded size ``(H, W)``, float ``[B, C, h, w]``.

    Attributes:
        embedding: ``[B, embed_dim, H / stride, W / stride]``.
        high_res: finer features, finest first: ``[B, high_res_dims[0], 4 H / stride, 4 W /
            stride]`` and ``[B, high_res_dims[1], 2 H / stride, 2 W / stride]``.
        pixels: ``[B, 3, H, W]``, the normalised photos, where contours are to be found on them.
    """

    embedding: Tensor
    high_res: tuple[Tensor, Tensor]
    pixels: Tensor | None = None


class ImageEncoder(nn.Module):
    """Base of the image encoders: ``forward(pixels, valid) -> EncodedImages``.

    ``pixels`` is float ``[B, 3, H, W]``, normalised, zero in the padding, H and W multiples of
    `stride`. ``valid`` is bool ``[B, H / stride, W / stride]``, False where a cell holds padding
    alone, or None when nothing is padded.

    Attributes:
        stride: pixels per cell of the embedding; a multiple of 4.
        embed_dim: channels of the embedding.
        high_res_dims: channels of the two finer maps, at a quarter and at half of `stride`.
    """

    stride: int
    embed_dim: int
    high_res_dims: tuple[int, int]

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> EncodedImages:
        """Return the features of a batch of photos."""
        raise NotImplementedError
