from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from tests.modeling.backbone.conftest import random_backbone, relative_error
from tests.modeling.backbone.golden_stages import load_published, stage_errors
from unsam.checkpoint.layouts.resnet_names import detectron2_resnet_name
from unsam.modeling.backbone import ResNet50


@pytest.mark.parametrize("pack", ["unsam_whole"])
def test_golden(golden_root: Path, pack: str) -> None:
    backbone = ResNet50()
    load_published(backbone, golden_root / pack, "backbone.", detectron2_resnet_name)
    errors = stage_errors(backbone, golden_root / pack, shorter_side=256)
    assert max(errors.values()) < 1e-5, errors


def test_folded_norms_change_nothing() -> None:
    ours = random_backbone(ResNet50)
    theirs = torchvision.models.resnet50(norm_layer=FrozenBatchNorm2d).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    pixels = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        x = theirs.maxpool(F.relu(theirs.bn1(theirs.conv1(pixels))))
        x = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        res5 = ours(pixels)["res5"]
    assert relative_error(res5, x) < 1e-5


def test_norms_are_frozen_and_convolutions_are_not() -> None:
    backbone = ResNet50()
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    assert len(before) == 4 * 53
    backbone.train()(torch.randn(2, 3, 64, 64))["res5"].sum().backward()
    assert all(torch.equal(before[name], buffer) for name, buffer in backbone.named_buffers())
    parameters = dict(backbone.named_parameters())
    assert len(parameters) == 53
    assert all(parameter.ndim == 4 for parameter in parameters.values())
    assert all(parameter.grad is not None for parameter in parameters.values())
