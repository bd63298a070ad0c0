"""ResNet-50 with frozen norms, the backbone of whole-image UnSAM.

Source: He et al. 2015 (arXiv 1512.03385); the stride of a stage lies in its first 3x3 convolution.

The modules and their names are torchvision's (``conv1``, ``bn1``, ``layer1.0.conv1``,
``layer1.0.bn1``, ``layer1.0.downsample.0`` and ``.1``, ...), which timm, DINO and most published
weights share. `unsam.checkpoint.layouts.resnet_names` gives the names that detectron2 has for them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d

from unsam.modeling.backbone.base import STAGES, Backbone
from unsam.modeling.build import BACKBONES

_DEPTHS = [3, 4, 6, 3]


@BACKBONES.register()
class ResNet50(Backbone):
    """ResNet-50 without its classifier; 23.5 million parameters.

    Statistics, scales and offsets of the norms are buffers: training leaves them as they were
    loaded. Each norm is folded into the convolution before it, which saves a pass over the map and,
    in training, its memory.
    """

    channels = (256, 512, 1024, 2048)

    def __init__(self) -> None:
        super().__init__()
        body = ResNet(_FoldedBottleneck, _DEPTHS, norm_layer=FrozenBatchNorm2d)
        self.conv1, self.bn1 = body.conv1, body.bn1
        self.layer1, self.layer2 = body.layer1, body.layer2
        self.layer3, self.layer4 = body.layer3, body.layer4

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return no arguments: there is one ResNet-50."""
        return {}

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the outputs of the four stages.

        Args:
            pixels: float ``[B, 3, H, W]``, normalised; H and W multiples of 32.

        Returns:
            ``res2`` to ``res5``: float ``[B, C, H / s, W / s]``, C 256 to 2048, s 4 to 32.
        """
        # The order in memory that convolutions are fastest in, on processors and tensor cores.
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        x = _convolve(pixels, self.conv1, self.bn1).relu_()
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        maps = {}
        for name, layer in zip(
            STAGES, (self.layer1, self.layer2, self.layer3, self.layer4), strict=True
        ):
            x = layer(x)
            maps[name] = x
        return maps


class _FoldedBottleneck(Bottleneck):
    """torchvision's residual block, each norm folded into the convolution before it."""

    def forward(self, x: Tensor) -> Tensor:
        """Map float ``[B, C, h, w]`` to ``[B, 4 * width, h / stride, w / stride]``."""
        out = _convolve(x, self.conv1, self.bn1).relu_()
        out = _convolve(out, self.conv2, self.bn2).relu_()
        out = _convolve(out, self.conv3, self.bn3)
        out += x if self.downsample is None else _convolve(x, *self.downsample)
        return out.relu_()


def _convolve(x: Tensor, conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> Tensor:
    """Return what `norm` makes of the output of `conv`, in one convolution."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight = conv.weight * scale[:, None, None, None]
    bias = norm.bias - norm.running_mean * scale
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)
