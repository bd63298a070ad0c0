"""A Sam small enough for tests, and segment-anything's own model with the same weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    TwoWayTransformer,
)
from segment_anything.modeling import Sam as LibrarySam
from torch import nn

from unsam.checkpoint.conversion import to_published
from unsam.checkpoint.layouts.sam import SAM
from unsam.modeling.automatic_masks import AutomaticMasks
from unsam.modeling.criterion import MaskCriterion
from unsam.modeling.granular_parts import GranularityParts
from unsam.modeling.interactive import TrainingClicks
from unsam.modeling.prompts import POSITIVE, Prompts
from unsam.modeling.sam import Sam, SamImageEncoder, SamMaskDecoder, SamPromptEncoder

# 18 cells a side: windows of 14 need padding.
IMAGE_SIZE = 288
DIM = 32


def tiny_sam(*, fused: bool = True, granular: bool = False, quality_head: bool = False) -> Sam:
    """Return a Sam in evaluation mode whose every parameter is random."""
    torch.manual_seed(0)
    model = Sam(
        image_encoder=SamImageEncoder(
            embed_dim=24,
            depth=2,
            num_heads=2,
            global_blocks=(1,),
            image_size=IMAGE_SIZE,
            out_dim=DIM,
            fused=fused,
        ),
        prompt_encoder=SamPromptEncoder(embed_dim=DIM, image_size=IMAGE_SIZE),
        mask_decoder=SamMaskDecoder(dim=DIM, num_heads=4, mlp_dim=64, fused=fused),
        granularity=GranularityParts(dim=DIM, quality_head=quality_head) if granular else None,
        lora={"rank": 4, "alpha": 8.0, "dropout": 0.1},
        criterion=MaskCriterion(),
        automatic=AutomaticMasks(points_per_side=3, quality_threshold=-10.0),
        clicks=TrainingClicks(rounds=2, masks_per_image=3),
        pixel_mean=(123.675, 116.28, 103.53),
        pixel_std=(58.395, 57.12, 57.375),
    )
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" not in name and not name.startswith("granularity."):
            _randomize(parameter)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_b" in name:
            _randomize(parameter)
    return model.eval()


def library_sam(model: Sam) -> LibrarySam:
    """Return segment-anything's model with the weights of a plain `tiny_sam`."""
    cells = IMAGE_SIZE // 16
    library = LibrarySam(
        ImageEncoderViT(
            img_size=IMAGE_SIZE,
            embed_dim=24,
            depth=2,
            num_heads=2,
            out_chans=DIM,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=(1,),
        ),
        PromptEncoder(DIM, (cells, cells), (IMAGE_SIZE, IMAGE_SIZE), 16),
        MaskDecoder(
            transformer_dim=DIM,
            transformer=TwoWayTransformer(2, DIM, 4, 64),
            iou_head_hidden_dim=DIM,
        ),
    )
    library.load_state_dict(to_published(model.state_dict(), SAM, "tiny"))
    return library.eval()


def click_prompts(num: int = 3, num_images: int = 1, **changes: Any) -> Prompts:
    """Return prompts of two positive clicks each, somewhere in the input."""
    generator = torch.Generator().manual_seed(num)
    fields: dict[str, Any] = {
        "points": torch.rand(num, 2, 2, generator=generator) * IMAGE_SIZE,
        "labels": torch.full((num, 2), POSITIVE),
        "granularity": None,
        "image_of_prompt": torch.arange(num) % num_images,
    }
    return Prompts(**(fields | changes))


def images(num: int = 1) -> list[torch.Tensor]:
    """Return prepared photos, the longer side that of the input."""
    generator = torch.Generator().manual_seed(7)
    size = (3, 200, IMAGE_SIZE)
    return [torch.randint(0, 256, size, dtype=torch.uint8, generator=generator) for _ in range(num)]


def _randomize(parameter: nn.Parameter) -> None:
    with torch.no_grad():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
        parameter.add_(torch.randn_like(parameter) / fan_in**0.5)
