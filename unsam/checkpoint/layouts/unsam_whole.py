"""Whole-image UnSAM, as its authors publish it: Mask2Former in detectron2's names."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from unsam.checkpoint.layouts.base import Layout, Recipe, Weights
from unsam.checkpoint.layouts.pixel_decoder_names import published_pixel_decoder_name
from unsam.checkpoint.layouts.renaming import replaced_start
from unsam.checkpoint.layouts.resnet_names import detectron2_resnet_name
from unsam.checkpoint.layouts.swin_names import (
    COMPUTED_SWIN_NAMES,
    computed_swin_value,
    published_swin_name,
)

_HEAD = "sem_seg_head.predictor."
_QUERIES = _HEAD + "query_feat.weight"
_CLASSES = _HEAD + "class_embed.weight"
_SWIN_STEM = "backbone.patch_embed.proj.weight"
_SWIN_SIZES = {96: "tiny", 192: "large"}
_NUM_QUERIES = 2000
_RESNET = re.compile(r"(conv1|bn1|layer[1-4])\.")
_SWIN = re.compile(r"(patch_embedding|patch_norm|stages|merges|norms)\.")

# Ours to theirs, each for the start of a name; the first that fits counts.
_DECODER_STARTS = (
    (r"query_features\.", "query_feat."),
    (r"query_positions\.", "query_embed."),
    (r"level_embedding\.", "level_embed."),
    (r"norm\.", "decoder_norm."),
    (r"class_head\.", "class_embed."),
    (r"mask_head\.", "mask_embed."),
    (
        r"layers\.(\d+)\.cross_attention\.in_projection\.",
        r"transformer_cross_attention_layers.\1.multihead_attn.in_proj_",
    ),
    (
        r"layers\.(\d+)\.cross_attention\.out_projection\.",
        r"transformer_cross_attention_layers.\1.multihead_attn.out_proj.",
    ),
    (r"layers\.(\d+)\.cross_norm\.", r"transformer_cross_attention_layers.\1.norm."),
    (
        r"layers\.(\d+)\.self_attention\.in_projection\.",
        r"transformer_self_attention_layers.\1.self_attn.in_proj_",
    ),
    (
        r"layers\.(\d+)\.self_attention\.out_projection\.",
        r"transformer_self_attention_layers.\1.self_attn.out_proj.",
    ),
    (r"layers\.(\d+)\.self_norm\.", r"transformer_self_attention_layers.\1.norm."),
    (r"layers\.(\d+)\.mlp\.layers\.0\.", r"transformer_ffn_layers.\1.linear1."),
    (r"layers\.(\d+)\.mlp\.layers\.1\.", r"transformer_ffn_layers.\1.linear2."),
    (r"layers\.(\d+)\.mlp_norm\.", r"transformer_ffn_layers.\1.norm."),
)


def _matches(weights: Weights) -> bool:
    # Mask2Former as published for COCO has the same names but 81 classes.
    return _QUERIES in weights and _CLASSES in weights and len(weights[_CLASSES]) == 2


def _recipe(weights: Weights) -> Recipe:
    overrides: tuple[object, ...] = ()
    num_queries = len(weights[_QUERIES])
    if num_queries != _NUM_QUERIES:
        overrides += ("MODEL.QUERY_DECODER.NUM_QUERIES", num_queries)
    if _SWIN_STEM not in weights:
        return Recipe("unsam/whole_image_R50.yaml", overrides)
    size = _SWIN_SIZES.get(len(weights[_SWIN_STEM]), "large")
    if size != "large":
        overrides += ("MODEL.BACKBONE.SIZE", size)
    return Recipe("unsam/whole_image_SwinL.yaml", overrides)


def _published(name: str) -> tuple[str, ...]:
    part, _, inner = name.partition(".")
    if part == "pixel_decoder":
        return (f"sem_seg_head.pixel_decoder.{published_pixel_decoder_name(inner)}",)
    if part == "backbone" and _RESNET.match(inner):
        return (f"backbone.{detectron2_resnet_name(inner)}",)
    if part == "backbone" and _SWIN.match(inner):
        return (f"backbone.{published_swin_name(inner)}",)
    published = replaced_start(inner, _DECODER_STARTS) if part == "query_decoder" else ""
    return (_HEAD + published,) if published else ()


def _computed_values(native: Weights) -> dict[str, Tensor]:
    """Return what the published model stores too: class weights of the loss, tables of Swin."""
    values = {"criterion.empty_weight": torch.tensor((1.0, 0.1))}
    for name, tensor in native.items():
        for published in _published(name):
            values |= computed_swin_value(published, tensor)
    return values


UNSAM_WHOLE = Layout(
    name="unsam_whole",
    title="UnSAM, whole image (Mask2Former)",
    matches=_matches,
    recipe=_recipe,
    published=_published,
    computed=(r"criterion\.empty_weight", rf"backbone\.{COMPUTED_SWIN_NAMES}"),
    computed_values=_computed_values,
    fresh=(r"query_decoder\.film\..*",),
)
"""``unsam_sa1b_*.pth``, ``unsam_plus_sa1b_*.pth``: 558 tensors with a ResNet-50 backbone."""
