"""A model small enough that a test takes a blink, and samples for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fvcore.common.config import CfgNode

from unsam.config import get_cfg
from unsam.modeling import GranularSam, build_model


def tiny_cfg() -> CfgNode:
    cfg = get_cfg()
    cfg.INPUT.IMAGE_SIZE = 64
    cfg.MODEL.EMBED_DIM = 32
    cfg.MODEL.IMAGE_ENCODER.STEM_DIM = 8
    cfg.MODEL.IMAGE_ENCODER.STAGE_DIMS = (16, 16, 32)
    cfg.MODEL.IMAGE_ENCODER.STAGE_DEPTHS = (1, 1, 1)
    cfg.MODEL.IMAGE_ENCODER.NUM_ATTENTION_BLOCKS = 1
    cfg.MODEL.IMAGE_ENCODER.NUM_HEADS = 2
    cfg.MODEL.MASK_DECODER.NUM_HEADS = 2
    cfg.MODEL.MASK_DECODER.MLP_DIM = 32
    cfg.MODEL.MASK_DECODER.UPSCALE_DIMS = (16, 8)
    cfg.MODEL.CLICKS.MASKS_PER_IMAGE = 4
    cfg.INFERENCE.POINTS_PER_SIDE = 4
    cfg.INFERENCE.QUALITY_THRESHOLD = 0.0
    cfg.INFERENCE.STABILITY_THRESHOLD = 0.0
    return cfg


def make_sample(seed: int, num_masks: int = 3, size: tuple[int, int] = (48, 64)) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(num_masks, *size, dtype=torch.bool)
    for index in range(num_masks):
        masks[index, 4 * index : 20 + 4 * index, 8 : 40 + 4 * index] = True
    return {
        "image": torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator),
        "masks": masks,
        "granularity": torch.linspace(0.2, 1.0, num_masks),
        "image_id": seed,
        "file_name": f"{seed}.jpg",
        "original_size": (2 * size[0], 2 * size[1]),
    }


def draw_blobs(model: GranularSam) -> None:
    """Make an untrained model answer each click with a blob around it, not with chance alone."""
    fine_dim = model.mask_decoder.upscale2.out_channels
    clicks = model.prompt_encoder.click_maps
    assert clicks is not None
    # The narrowest map of positive clicks comes after those of negative clicks.
    model.mask_decoder.hypernetwork.layers[-1].bias.data[fine_dim + len(clicks.widths)] = 4.0


@pytest.fixture
def cfg() -> CfgNode:
    return tiny_cfg()


@pytest.fixture
def model(cfg: CfgNode) -> GranularSam:
    torch.manual_seed(0)
    built = build_model(cfg)
    assert isinstance(built, GranularSam)
    return built
