"""ResNet-50 and the feature pyramid on top of it, with the parameter names of CutLER's weights.

Sources: He et al. 2015 (arXiv 1512.03385), Lin et al. 2016 (arXiv 1612.03144); the stride of a
stage lies in its first 3x3 convolution. Norms use their running statistics and are folded into the
convolution before them, so that each pair is one pass over the pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32, 64)
"""Pixels per cell of the pyramid levels p2 to p6."""

_STAGES = {"res2": (3, 64, 1), "res3": (4, 128, 2), "res4": (6, 256, 2), "res5": (3, 512, 2)}
_EXPANSION = 4
_PYRAMID_CHANNELS = 256


class ConvNorm(nn.Conv2d):
    """A convolution without bias and the batch norm after it, in evaluation mode.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: 1, 3 or 7; the padding keeps the size at stride 1.
        stride: of the convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``float [B, C, H, W]`` to ``float [B, C', H / stride, W / stride]``."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = self.weight * scale[:, None, None, None]
        bias = norm.bias - norm.running_mean * scale
        return F.conv2d(x, weight, bias, self.stride, self.padding)


class Bottleneck(nn.Module):
    """A residual block: 1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * _EXPANSION
        self.shortcut = (
            ConvNorm(in_channels, out_channels, 1, stride)
            if in_channels != out_channels
            else nn.Identity()
        )
        self.conv1 = ConvNorm(in_channels, width, 1)
        self.conv2 = ConvNorm(width, width, 3, stride)
        self.conv3 = ConvNorm(width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``float [B, C, H, W]`` to ``float [B, 4 * width, H / stride, W / stride]``."""
        out = self.conv1(x).relu_()
        out = self.conv2(out).relu_()
        out = self.conv3(out)
        out += self.shortcut(x)
        return out.relu_()


class ResNet50(nn.Module):
    """ResNet-50 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({"conv1": ConvNorm(3, 64, 7, 2)})
        channels = 64
        for name, (blocks, width, stride) in _STAGES.items():
            stage = nn.Sequential()
            for index in range(blocks):
                stage.append(Bottleneck(channels, width, stride if index == 0 else 1))
                channels = width * _EXPANSION
            self.add_module(name, stage)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the stages' outputs.

        Args:
            x: ``float [B, 3, H, W]``, normalised, sides multiples of 32.

        Returns:
            ``res2`` to ``res5``: ``float [B, C, H / s, W / s]``, C 256 to 2048, s 4 to 32.
        """
        x = self.stem["conv1"](x).relu_()
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        outputs = {}
        for name in _STAGES:
            x = getattr(self, name)(x)
            outputs[name] = x
        return outputs


class FeaturePyramid(nn.Module):
    """ResNet-50 with a top-down path that brings its stages to 256 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.bottom_up = ResNet50()
        for level, (_, width, _) in enumerate(_STAGES.values(), start=2):
            lateral = ConvNorm(width * _EXPANSION, _PYRAMID_CHANNELS, 1)
            self.add_module(f"fpn_lateral{level}", lateral)
            output = ConvNorm(_PYRAMID_CHANNELS, _PYRAMID_CHANNELS, 3)
            self.add_module(f"fpn_output{level}", output)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return p2 to p6.

        Args:
            x: ``float [B, 3, H, W]``, normalised, sides multiples of 32.

        Returns:
            Five ``float [B, 256, ceil(H / s), ceil(W / s)]``, s as in `STRIDES`.
        """
        return self.merge(self.bottom_up(x))

    def merge(self, stages: dict[str, Tensor]) -> list[Tensor]:
        """Return p2 to p6 of the outputs of `ResNet50`."""
        levels: list[Tensor] = []
        above: Tensor | None = None
        for level in (5, 4, 3, 2):
            merged = getattr(self, f"fpn_lateral{level}")(stages[f"res{level}"])
            if above is not None:
                merged = merged + F.interpolate(above, scale_factor=2.0, mode="nearest")
            above = merged
            levels.insert(0, getattr(self, f"fpn_output{level}")(merged))
        levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return levels
