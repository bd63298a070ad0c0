from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.modeling.conftest import make_sample
from unsam.config import get_cfg, load_config
from unsam.errors import ConfigError
from unsam.modeling import IMAGE_ENCODERS, EncodedImages, ImageEncoder, Prompts, build_model


def test_the_default_model_is_small_and_builds():
    model = build_model(get_cfg())
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 1_000_000 < count < 4_000_000


@pytest.mark.parametrize(
    ("key", "match"),
    [("META_ARCHITECTURE", "did you mean 'GranularSam'"), ("ENCODER", "ConvTransformerEncoder")],
)
def test_unknown_names_name_the_nearest(cfg, key, match):
    if key == "ENCODER":
        cfg.MODEL.IMAGE_ENCODER.NAME = "ConvTransformerEncodr"
    else:
        cfg.MODEL[key] = "GranularSm"
    with pytest.raises(ConfigError, match=match):
        build_model(cfg)


@pytest.mark.parametrize(
    ("recipe", "key", "value"),
    [
        ("sam/sam_vit_b.yaml", "INPUT.IMAGE_SIZE", "500"),
        ("sam2/sam2.1_hiera_tiny.yaml", "INPUT.IMAGE_SIZE", "500"),
        ("sam2/sam2.1_hiera_tiny.yaml", "INFERENCE.POINTS_PER_SIDE", "0"),
        ("sam2/sam2.1_hiera_tiny.yaml", "INFERENCE.GRANULARITIES", "[0.5, 2.0]"),
        ("unsam/whole_image_R50_granular.yaml", "INFERENCE.GRANULARITIES", "['fine']"),
    ],
)
def test_settings_that_a_model_cannot_have_are_errors_of_the_config(recipe, key, value):
    with pytest.raises(ConfigError, match="got") as caught:
        build_model(load_config(recipe, [key, value]))
    assert "\n" not in str(caught.value)


def test_sam_like_prompts_without_point_features(cfg):
    """Without its two additions the prompt encoder is SAM's, and the model still works."""
    cfg.MODEL.PROMPT_ENCODER.POINT_FEATURES = False
    cfg.MODEL.PROMPT_ENCODER.CLICK_MAPS = False
    model = build_model(cfg)
    assert model.prompt_encoder.point_features is None
    assert model.prompt_encoder.click_maps is None
    losses = model([make_sample(0), make_sample(1)])
    assert all(torch.isfinite(value) for value in losses.values())


class _StrideEightEncoder(ImageEncoder):
    """An encoder of another stride, as later backbones may have."""

    stride = 8

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim, self.high_res_dims = embed_dim, (4, 6)
        self.embed = nn.Conv2d(3, embed_dim, 8, stride=8)
        self.middle, self.fine = nn.Conv2d(3, 6, 4, stride=4), nn.Conv2d(3, 4, 2, stride=2)

    @classmethod
    def from_config(cls, cfg):
        return {"embed_dim": cfg.MODEL.EMBED_DIM}

    def forward(self, pixels, valid=None):
        return EncodedImages(self.embed(pixels), (self.fine(pixels), self.middle(pixels)))


def test_another_encoder_needs_no_change_elsewhere(cfg, monkeypatch):
    monkeypatch.setitem(IMAGE_ENCODERS._obj_map, "StrideEight", _StrideEightEncoder)
    cfg.MODEL.IMAGE_ENCODER.NAME = "StrideEight"
    model = build_model(cfg).eval()
    assert model.mask_stride == 2
    images = model.encode([torch.zeros(3, 40, 64, dtype=torch.uint8)])
    prompts = Prompts(
        torch.rand(2, 1, 2), torch.ones(2, 1).long(), torch.ones(2), torch.zeros(2).long()
    )
    assert model.decode(images, prompts)[0].shape == (2, 20, 32)
