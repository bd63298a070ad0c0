"""A SAM 2 small enough that a test takes a blink, and prompts for it."""

from __future__ import annotations

import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from transformers import Sam2VideoModel

from unsam.config import get_cfg
from unsam.modeling.prompts import POSITIVE, Prompts
from unsam.modeling.sam2 import HieraSize, Sam2, video_config

SIZE = 64
TINY = HieraSize(16, 1, (1, 2, 2, 1), (4,))


def tiny_cfg(granular: bool = False) -> CfgNode:
    cfg = get_cfg()
    cfg.INPUT.IMAGE_SIZE = SIZE
    cfg.MODEL.META_ARCHITECTURE = "Sam2"
    cfg.MODEL.GRANULARITY.ENABLED = granular
    cfg.MODEL.CLICKS.MASKS_PER_IMAGE = 4
    cfg.MODEL.CLICKS.ROUNDS = 2
    cfg.INFERENCE.POINTS_PER_SIDE = 3
    cfg.INFERENCE.QUALITY_THRESHOLD = 0.0
    cfg.INFERENCE.PRECISION = "float32"
    return cfg


def tiny_model(granular: bool = False, cfg: CfgNode | None = None, seed: int = 0) -> Sam2:
    """In evaluation mode, with weights that make masks of either sign."""
    torch.manual_seed(seed)
    network = Sam2VideoModel(video_config(TINY, "2.1", SIZE))
    arguments = Sam2.from_config(tiny_cfg(granular) if cfg is None else cfg)
    model = Sam2(**(arguments | {"network": network})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # At their initial zero, low-rank updates and many biases would not be tested.
            gain = 1.5 if "hypernetwork" in name or "upscale" in name else 1.0
            if parameter.ndim > 1:
                parameter.normal_(std=gain / parameter[0].numel() ** 0.5)
            elif name.endswith("bias"):
                parameter.normal_(std=0.05)
    return model


def clicks(points: Tensor, granularity: list[float] | None = None) -> Prompts:
    """Positive clicks ``[P, K, 2]`` on the first photo."""
    return Prompts(
        points=points,
        labels=torch.full(points.shape[:2], POSITIVE),
        granularity=None if granularity is None else torch.tensor(granularity),
        image_of_prompt=torch.zeros(len(points), dtype=torch.int64),
    )


def photos(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.rand(count, 3, SIZE, SIZE, generator=generator) * 255)
