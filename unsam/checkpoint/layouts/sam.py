"""Segment Anything: the released files (sam_vit_b, _l, _h) and transformers' `SamModel`."""

from __future__ import annotations

import re

from unsam.checkpoint.layouts.base import Layout, Recipe, Weights
from unsam.checkpoint.layouts.renaming import replaced_everywhere

_LETTERS = {768: "b", 1024: "l", 1280: "h"}
_ADDED = (r"granularity\..+", r".+\.lora_[ab]")


def _is_added(name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in _ADDED)


def _recipe(width: int) -> Recipe:
    return Recipe(f"sam/sam_vit_{_LETTERS[width]}.yaml")


_TO_RELEASED = (
    (r"\.norm_final\.", ".norm_final_attn."),
    (r"(transformer\.layers\.\d+\.mlp)\.layers\.0\.", r"\1.lin1."),
    (r"(transformer\.layers\.\d+\.mlp)\.layers\.1\.", r"\1.lin2."),
)
_RELEASED_WIDTH = "image_encoder.patch_embed.proj.weight"


def _is_released(weights: Weights) -> bool:
    return (
        _RELEASED_WIDTH in weights
        and weights[_RELEASED_WIDTH].shape[0] in _LETTERS
        and "mask_decoder.iou_token.weight" in weights
        and not any(_is_added(name) for name in weights)
    )


def _released_name(name: str) -> tuple[str, ...]:
    return () if _is_added(name) else (replaced_everywhere(name, _TO_RELEASED),)


SAM = Layout(
    name="sam",
    title="Segment Anything",
    matches=_is_released,
    recipe=lambda weights: _recipe(weights[_RELEASED_WIDTH].shape[0]),
    published=_released_name,
    wrapper="",
    fresh=_ADDED,
)
"""``sam_vit_{b,l,h}_*.pth``: the state dict itself."""

_TO_HUB = (
    *_TO_RELEASED,
    (
        r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
        "shared_image_embedding.positional_embedding",
    ),
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"^vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"(_mlps\.\d+|prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(_mlps\.\d+|prediction_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(_mlps\.\d+|prediction_head)\.layers\.2\.", r"\1.proj_out."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
)
_HUB_WIDTH = "vision_encoder.patch_embed.projection.weight"
_HUB_POSITION = "shared_image_embedding.positional_embedding"


def _is_hub(weights: Weights) -> bool:
    return (
        _HUB_WIDTH in weights
        and weights[_HUB_WIDTH].shape[0] in _LETTERS
        and "mask_decoder.iou_token.weight" in weights
    )


def _hub_name(name: str) -> tuple[str, ...]:
    return () if _is_added(name) else (replaced_everywhere(name, _TO_HUB),)


def _repeated(name: str) -> str | None:
    repeats = name == "prompt_encoder.shared_embedding.positional_embedding"
    return _HUB_POSITION if repeats else None


SAM_HUB = Layout(
    name="sam_hub",
    title="Segment Anything (transformers)",
    matches=_is_hub,
    recipe=lambda weights: _recipe(weights[_HUB_WIDTH].shape[0]),
    published=_hub_name,
    aliases=_repeated,
    wrapper="",
    fresh=_ADDED,
)
"""``model.safetensors`` of transformers' `SamModel`."""
