"""Contours of a whole photo: where regions of any granularity end, without a prompt."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from unsam.modeling.image_encoder import EncodedImages
from unsam.modeling.layers import ChannelNorm


class ContourDecoder(nn.Module):
    """Image features and pixels to one contour logit per pixel.

    The embedding and the encoder's finer maps say what belongs together; two shallow stages on the
    pixels themselves say exactly where it ends. It is taught the contours of the pseudo masks
    (`unsam.regions.contours`): each photo's are noisy, what they have in common is not.

    Args:
        embed_dim: channels of the embedding at stride 16.
        high_res_dims: channels of the finer maps, finest (stride 4) first.
        dims: channels at strides 1, 2, 4 and 8.

    Raises:
        ValueError: not four numbers over 0.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        high_res_dims: tuple[int, int],
        dims: tuple[int, int, int, int] = (12, 24, 48, 64),
    ) -> None:
        super().__init__()
        if len(dims) != 4 or min(dims) < 1:
            raise ValueError(f"MODEL.CONTOURS.DIMS are four numbers of at least 1, got {dims}")
        full, half, quarter, eighth = dims
        self.pixels = nn.Conv2d(3, full, 3, padding=1)
        self.halves = _block(full, half, stride=2)
        self.eighths = _block(embed_dim + high_res_dims[1], eighth)
        self.quarters = _block(eighth + high_res_dims[0], quarter)
        self.join_halves = _block(quarter + half, half)
        self.join_pixels = nn.Conv2d(half + full, full, 3, padding=1)
        self.score = nn.Conv2d(full, 1, 3, padding=1)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``MODEL.CONTOURS`` into the constructor's arguments."""
        return {"dims": tuple(cfg.MODEL.CONTOURS.DIMS)}

    def forward(self, pixels: Tensor, features: EncodedImages) -> Tensor:
        """Return logits ``[B, H, W]``, over 0 where a contour is likelier than not.

        Args:
            pixels: float ``[B, 3, H, W]``, normalised; H and W multiples of 16.
            features: of the same photos.
        """
        fine, middle = features.high_res
        full = F.relu(self.pixels(pixels))
        half = self.halves(full)
        x = self.eighths(torch.cat((_double(features.embedding), middle), dim=1))
        x = self.quarters(torch.cat((_double(x), fine), dim=1))
        x = self.join_halves(torch.cat((_double(x), half), dim=1))
        x = F.relu(self.join_pixels(torch.cat((_double(x), full), dim=1)))
        return self.score(x)[:, 0]


def contour_loss(logits: Tensor, strength: Tensor, inside: Tensor, gain: float = 4.0) -> Tensor:
    """Return the cross entropy of contour logits with the strength of the contours, a scalar.

    A mean over the pixels of each photo, then over photos. Pixels on contours are few and weigh up
    to ``1 + gain``.

    Args:
        logits: float ``[B, H, W]``.
        strength: float ``[B, H, W]`` in [0, 1].
        inside: bool ``[B, H, W]``, False in the padding.
        gain: extra weight of a pixel on the strongest contour.
    """
    logits = logits.to(torch.float32)
    loss = F.binary_cross_entropy_with_logits(logits, strength, reduction="none")
    weighted = (loss * (1 + gain * strength) * inside).flatten(1).sum(1)
    return (weighted / inside.flatten(1).sum(1).clamp(min=1)).mean()


def _block(in_dim: int, out_dim: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_dim, out_dim, 3, stride=stride, padding=1),
        ChannelNorm(out_dim),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_dim, out_dim, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
