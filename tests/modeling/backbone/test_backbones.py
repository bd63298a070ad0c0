"""What holds for every backbone."""

from __future__ import annotations

import pytest
import torch

from tests.modeling.backbone.conftest import BACKBONES, relative_error
from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.modeling.backbone import Backbone
from unsam.modeling.backbone.base import STAGES, STRIDES
from unsam.modeling.build import build_backbone


@pytest.mark.parametrize("size", [(32, 32), (64, 160)])
def test_maps_have_the_promised_shapes(backbone: Backbone, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        maps = backbone(torch.randn(1, 3, *size))
    assert tuple(maps) == STAGES
    for name, channels, stride in zip(STAGES, backbone.channels, STRIDES, strict=True):
        assert maps[name].shape == (1, channels, size[0] // stride, size[1] // stride)
        assert maps[name].isfinite().all()


def test_photos_of_a_batch_do_not_see_each_other(backbone: Backbone) -> None:
    pixels = torch.randn(3, 3, 64, 96)
    with torch.inference_mode():
        together, alone = backbone(pixels), backbone(pixels[1:2])
    for name in STAGES:
        assert relative_error(together[name][1:2], alone[name]) < 1e-5


def test_double_precision_agrees_with_single(backbone: Backbone) -> None:
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        single = backbone(pixels)
        double = backbone.double()(pixels.double())
    for name in STAGES:
        assert double[name].dtype == torch.float64
        assert relative_error(single[name], double[name]) < 1e-5


def test_autocast_stays_near_full_precision(backbone: Backbone) -> None:
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        full = backbone(pixels)
        with torch.autocast("cpu", torch.bfloat16):
            half = backbone(pixels)
    for name in STAGES:
        assert (half[name] - full[name]).norm() < 0.05 * full[name].norm()


def test_forward_compiles_into_one_graph(backbone: Backbone) -> None:
    pixels = torch.randn(1, 3, 64, 64)
    compiled = torch.compile(backbone, backend="eager", fullgraph=True)
    with torch.no_grad():
        expected, maps = backbone(pixels), compiled(pixels)
    for name in STAGES:
        assert relative_error(maps[name], expected[name]) < 1e-6


def test_every_parameter_learns(backbone: Backbone) -> None:
    maps = backbone.train()(torch.randn(1, 3, 64, 96))
    sum((features * torch.randn_like(features)).sum() for features in maps.values()).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("name", "size"), [("ResNet50", "tiny"), ("SwinTransformer", "tiny"), ("SamVit", "base")]
)
def test_the_config_selects_the_backbone(name: str, size: str, small_sizes: None) -> None:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.SIZE = name, size
    assert type(build_backbone(cfg)) is BACKBONES[name]


@pytest.mark.parametrize("name", ["SwinTransformer", "SamVit"])
def test_an_unknown_size_is_named_with_the_known_ones(name: str) -> None:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.SIZE = name, "giant"
    with pytest.raises(ConfigError, match=r"SIZE: unknown 'giant' for this backbone; known: \w+, "):
        build_backbone(cfg)
