from __future__ import annotations

import pytest
import torch
from segment_anything.modeling.image_encoder import Block
from torch import nn
from torch.nn import functional as F

from tests.modeling.backbone.conftest import random_backbone, relative_error
from unsam.modeling.backbone import SamVit


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (32, 288)])
def test_other_sizes_interpolate_positions_as_the_library(
    small_sizes: None, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    backbone = random_backbone(SamVit)
    assert isinstance(backbone, SamVit)
    encoder, pixels = backbone.encoder, torch.randn(2, 3, *size)
    absolute = encoder.pos_embed.permute(0, 3, 1, 2)
    cells = (size[0] // 16, size[1] // 16)
    with torch.inference_mode():
        x = encoder.patch_embed(pixels)
        x = x + F.interpolate(absolute, cells, mode="bicubic").permute(0, 2, 3, 1)
        # segment-anything's blocks interpolate their relative positions on their own.
        for block in encoder.blocks:
            x = Block.forward(block, x)
        expected = backbone.pyramid(x.permute(0, 3, 1, 2))
        maps = backbone(pixels)
    for name, features in maps.items():
        assert relative_error(features, expected[name]) < 1e-5


def test_the_trained_size_is_sams_own_encoder(small_sizes: None) -> None:
    torch.manual_seed(0)
    backbone = random_backbone(SamVit)
    assert isinstance(backbone, SamVit)
    # The pyramid is not what is asked about, and most of the time at this size.
    backbone.pyramid = nn.Identity()  # type: ignore[assignment]
    pixels = torch.randn(1, 3, 1024, 1024)
    with torch.inference_mode():
        assert torch.equal(backbone(pixels), backbone.encoder(pixels))  # type: ignore[arg-type]


def test_positions_learn_at_every_size(small_sizes: None) -> None:
    backbone = SamVit()
    backbone(torch.randn(1, 3, 64, 96))["res4"].square().sum().backward()
    for name in ("rel_pos_h", "rel_pos_w"):
        assert getattr(backbone.encoder.blocks[1].attn, name).grad is not None
    assert backbone.encoder.pos_embed.grad is not None
