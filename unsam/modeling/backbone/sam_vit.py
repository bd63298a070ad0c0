"""SAM's image encoder with a feature pyramid on top: a plain vision transformer as a backbone.

Sources: the encoder of Segment Anything (arXiv 2304.02643); the simple feature pyramid of ViTDet
(Li et al. 2022, arXiv 2203.16527, section 3).
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.func import functional_call

from unsam.modeling.backbone.base import STAGES, Backbone, shape_of_size
from unsam.modeling.build import BACKBONES
from unsam.modeling.layers import ChannelNorm
from unsam.modeling.sam.image_encoder import ENCODERS, SamImageEncoder

_PYRAMID_DIM = 256


@BACKBONES.register()
class SamVit(Backbone):
    """The blocks of SAM's image encoder, without its neck, and a simple feature pyramid.

    Photos need not be the squares of 1024 pixels that SAM was trained on: positions are
    interpolated for other sizes.

    Args:
        size: "base", "large" or "huge".

    Raises:
        ConfigError: `size` is no such size.
    """

    channels = (_PYRAMID_DIM, _PYRAMID_DIM, _PYRAMID_DIM, _PYRAMID_DIM)

    def __init__(self, *, size: str = "base") -> None:
        super().__init__()
        shape = shape_of_size(size, ENCODERS)
        self.encoder = SamImageEncoder(**shape)
        self.encoder.neck = nn.Identity()
        self.pyramid = SimpleFeaturePyramid(shape["embed_dim"], _PYRAMID_DIM)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``MODEL.BACKBONE`` into the constructor's arguments."""
        return {"size": cfg.MODEL.BACKBONE.SIZE}

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the maps of the pyramid.

        Args:
            pixels: float ``[B, 3, H, W]``, normalised; H and W multiples of 32.

        Returns:
            ``res2`` to ``res5``: float ``[B, 256, H / s, W / s]``, s 4 to 32.
        """
        size = (pixels.shape[2] // self.encoder.stride, pixels.shape[3] // self.encoder.stride)
        return self.pyramid(functional_call(self.encoder, self._positions(size), (pixels,)))

    def _positions(self, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the position parameter that does not fit maps of `size` (h, w) of its own accord.

        Relative positions are interpolated by the blocks, which may be computed once more on the
        way back, when parameters are what they are again.
        """
        absolute = self.encoder.pos_embed.permute(0, 3, 1, 2)
        if absolute.shape[2:] == size:
            return {}
        absolute = F.interpolate(absolute, size, mode="bicubic", align_corners=False)
        return {"pos_embed": absolute.permute(0, 2, 3, 1)}


class SimpleFeaturePyramid(nn.Module):
    """One map at 1/16 of the photo's size to four at 1/4 to 1/32.

    Args:
        in_dim: channels of the map, a multiple of 4.
        dim: channels of the results.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        half, quarter = in_dim // 2, in_dim // 4
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_dim, half, 2, stride=2),
                    ChannelNorm(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                    *_projection(quarter, dim),
                ),
                nn.Sequential(
                    nn.ConvTranspose2d(in_dim, half, 2, stride=2), *_projection(half, dim)
                ),
                nn.Sequential(*_projection(in_dim, dim)),
                nn.Sequential(nn.MaxPool2d(2), *_projection(in_dim, dim)),
            ]
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map float ``[B, in_dim, h, w]``, h and w even, to ``res2`` ... ``res5``."""
        return {name: level(x) for name, level in zip(STAGES, self.levels, strict=True)}


def _projection(in_dim: int, dim: int) -> list[nn.Module]:
    """Return the layers at the end of every level; the norms take the place of biases."""
    return [
        nn.Conv2d(in_dim, dim, 1, bias=False),
        ChannelNorm(dim),
        nn.Conv2d(dim, dim, 3, padding=1, bias=False),
        ChannelNorm(dim),
    ]
