"""What detectron2 calls the tensors of a ResNet, in terms of torchvision's names."""

from __future__ import annotations

import re


def detectron2_resnet_name(name: str) -> str:
    """Return detectron2's name of a ResNet tensor that torchvision calls `name`.

    A norm belongs to its convolution there, and stages count from ``res2``::

        conv1.weight                      stem.conv1.weight
        bn1.running_mean                  stem.conv1.norm.running_mean
        layer1.0.conv2.weight             res2.0.conv2.weight
        layer4.2.bn3.bias                 res5.2.conv3.norm.bias
        layer2.0.downsample.0.weight      res3.0.shortcut.weight
        layer2.0.downsample.1.weight      res3.0.shortcut.norm.weight
    """
    name = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", name)
    name = name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    staged = re.sub(r"^layer(\d)", lambda match: f"res{int(match[1]) + 1}", name)
    return staged if staged != name else f"stem.{name}"
