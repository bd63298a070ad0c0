"""A SemanticSam small enough that a test takes a blink."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unsam.modeling.automatic_masks import AutomaticMasks
from unsam.modeling.backbone import Backbone
from unsam.modeling.interactive import TrainingClicks
from unsam.modeling.pixel_decoder import DeformablePixelDecoder
from unsam.modeling.semantic_sam import PromptCriterion, PromptedDecoder, SemanticSam

DIM = 64


class TinyBackbone(Backbone):
    """One convolution per stage."""

    channels = (8, 8, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *self.channels)
        strides = (4, 2, 2, 2)
        self.stages = nn.ModuleList(
            nn.Conv2d(width, following, stride, stride)
            for width, following, stride in zip(widths, self.channels, strides, strict=False)
        )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        maps = {}
        for name, stage in zip(("res2", "res3", "res4", "res5"), self.stages, strict=True):
            pixels = torch.relu(stage(pixels))
            maps[name] = pixels
        return maps


def tiny_decoder(num_layers: int = 3, num_tokens: int = 6) -> PromptedDecoder:
    decoder = PromptedDecoder(
        dim=DIM,
        mask_dim=DIM,
        num_tokens=num_tokens,
        num_layers=num_layers,
        num_heads=4,
        num_levels=4,
        num_points=2,
        ffn_dim=32,
    )
    # Otherwise untrained tokens would not move their boxes.
    nn.init.normal_(decoder.box_head.layers[-1].weight, std=0.2)
    return decoder


def tiny_model(num_tokens: int = 6, box_probability: float = 0.0) -> SemanticSam:
    torch.manual_seed(0)
    return SemanticSam(
        backbone=TinyBackbone(),
        pixel_decoder=DeformablePixelDecoder(
            in_channels=TinyBackbone.channels,
            dim=DIM,
            mask_dim=DIM,
            num_levels=4,
            num_layers=1,
            num_heads=4,
            num_points=2,
            ffn_dim=32,
            fine_first=True,
        ),
        decoder=tiny_decoder(num_tokens=num_tokens),
        criterion=PromptCriterion(num_points=256),
        automatic=AutomaticMasks(
            points_per_side=3, granularities=(), quality_threshold=-100.0, precision="float32"
        ),
        clicks=TrainingClicks(centre_probability=0.0, box_probability=box_probability),
        max_prompts=8,
        click_size=0.005,
        click_kind=0,
        training_click_kind=1,
        shorter_side=64,
        max_longer_side=128,
        pixel_mean=(120.0, 120.0, 120.0),
        pixel_std=(60.0, 60.0, 60.0),
    )


@pytest.fixture
def model() -> SemanticSam:
    return tiny_model()
