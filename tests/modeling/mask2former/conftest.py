"""A Mask2Former small enough for tests."""

from __future__ import annotations

import pytest
import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from unsam.config import get_cfg
from unsam.modeling.backbone import Backbone
from unsam.modeling.mask2former import (
    BestQueries,
    Mask2Former,
    MaskedAttentionDecoder,
    QueryCriterion,
)
from unsam.modeling.pixel_decoder import DeformablePixelDecoder, PixelFeatures


class TinyBackbone(Backbone):
    """Four convolutions; the published backbones have their own tests."""

    channels = (8, 8, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *self.channels)
        self.stages = nn.ModuleList(
            nn.Conv2d(
                widths[index],
                widths[index + 1],
                kernel_size=4 if index == 0 else 2,
                stride=4 if index == 0 else 2,
            )
            for index in range(4)
        )

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        maps = {}
        for index, stage in enumerate(self.stages):
            pixels = stage(pixels).relu()
            maps[f"res{index + 2}"] = pixels
        return maps


def tiny_cfg() -> CfgNode:
    cfg = get_cfg()
    cfg.INPUT.SHORTER_SIDE = 64
    cfg.INPUT.MAX_LONGER_SIDE = 128
    cfg.MODEL.META_ARCHITECTURE = "Mask2Former"
    pixel, query = cfg.MODEL.PIXEL_DECODER, cfg.MODEL.QUERY_DECODER
    pixel.DIM = pixel.MASK_DIM = 32
    pixel.NUM_LAYERS = 1
    pixel.NUM_HEADS = query.NUM_HEADS = 4
    pixel.FFN_DIM = query.FFN_DIM = 32
    query.NUM_QUERIES = 12
    query.NUM_LAYERS = 3
    cfg.CRITERION.QUERIES.NUM_POINTS = 256
    cfg.INFERENCE.QUALITY_THRESHOLD = 0.0
    cfg.INFERENCE.PRECISION = "float32"
    cfg.INFERENCE.GRANULARITIES = (0.2, 0.6)
    return cfg


def tiny_mask2former(cfg: CfgNode, seed: int = 0) -> Mask2Former:
    torch.manual_seed(seed)
    return Mask2Former(
        backbone=TinyBackbone(),
        pixel_decoder=DeformablePixelDecoder(
            in_channels=TinyBackbone.channels, **DeformablePixelDecoder.from_config(cfg)
        ),
        query_decoder=MaskedAttentionDecoder(**MaskedAttentionDecoder.from_config(cfg)),
        criterion=QueryCriterion(**QueryCriterion.from_config(cfg)),
        best_queries=BestQueries(**BestQueries.from_config(cfg)),
        shorter_side=cfg.INPUT.SHORTER_SIDE,
        max_longer_side=cfg.INPUT.MAX_LONGER_SIDE,
        pixel_mean=cfg.INPUT.PIXEL_MEAN,
        pixel_std=cfg.INPUT.PIXEL_STD,
    )


def random_features(
    seed: int, batch: int = 1, dim: int = 32, size: tuple[int, int] = (24, 16)
) -> PixelFeatures:
    """Return float64 features of inputs of four times `size`, which is a multiple of 8."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size

    def draw(divisor: int) -> Tensor:
        shape = (batch, dim, height // divisor, width // divisor)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return PixelFeatures(mask_features=draw(1), levels=(draw(8), draw(4), draw(2)))


@pytest.fixture
def cfg() -> CfgNode:
    return tiny_cfg()


@pytest.fixture
def model(cfg: CfgNode) -> Mask2Former:
    return tiny_mask2former(cfg)


@pytest.fixture
def granular(cfg: CfgNode) -> Mask2Former:
    """A model with granularity, whose modulation has left its initial zero."""
    cfg.MODEL.QUERY_DECODER.GRANULARITY = "film"
    model = tiny_mask2former(cfg)
    film = model.query_decoder.film
    assert film is not None
    nn.init.normal_(film.modulation.weight, std=0.5)
    return model
