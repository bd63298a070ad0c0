"""What every backbone promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

from unsam.errors import ConfigError

Shape = TypeVar("Shape")

STAGES = ("res2", "res3", "res4", "res5")
"""Names of the feature maps, finest first."""

STRIDES = (4, 8, 16, 32)
"""Pixels per cell of the maps of `STAGES`."""


class Backbone(nn.Module):
    """Base of the backbones: ``forward(pixels) -> dict`` of four feature maps.

    ``pixels`` is float ``[B, 3, H, W]``, normalised, H and W multiples of 32. The maps are float
    ``[B, C, H / s, W / s]`` under the names `STAGES`, with s of `STRIDES` and C of `channels`.

    Attributes:
        channels: of ``res2`` to ``res5``.
    """

    channels: tuple[int, int, int, int]

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the feature maps of a batch of photos."""
        raise NotImplementedError


def shape_of_size(size: str, known: Mapping[str, Shape]) -> Shape:
    """Return the dimensions of a published size.

    Raises:
        ConfigError: `known` has no such size.
    """
    if size not in known:
        raise ConfigError(
            f"MODEL.BACKBONE.SIZE: unknown '{size}' for this backbone; known: {', '.join(known)}"
        )
    return known[size]
