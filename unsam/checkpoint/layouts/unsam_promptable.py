"""Checkpoints of promptable UnSAM, Swin-T and Swin-L."""

from __future__ import annotations

import re

from torch import Tensor

from unsam.checkpoint.layouts.base import Layout, Recipe, Weights
from unsam.checkpoint.layouts.pixel_decoder_names import published_pixel_decoder_name
from unsam.checkpoint.layouts.renaming import replaced_start
from unsam.checkpoint.layouts.swin_names import (
    COMPUTED_SWIN_NAMES,
    computed_swin_value,
    published_swin_name,
)

_BACKBONE = "model.backbone."
_PIXEL_DECODER = "model.sem_seg_head.pixel_decoder."
_PREDICTOR = "model.sem_seg_head.predictor."

# Ours to theirs, each for the start of a name; the first that fits counts.
_DECODER_STARTS = (
    (r"label_embedding\.", "label_enc."),
    (r"kind_embedding\.", "pb_embedding."),
    (r"mask_tokens\.", "mask_tokens."),
    (r"position_mlp\.", "decoder.ref_point_head."),
    (r"layers\.(\d+)\.self_attention\.in_proj\.", r"decoder.layers.\1.self_attn.in_proj_"),
    (r"layers\.(\d+)\.self_attention\.out_proj\.", r"decoder.layers.\1.self_attn.out_proj."),
    (r"layers\.(\d+)\.self_norm\.", r"decoder.layers.\1.norm2."),
    (r"layers\.(\d+)\.cross_attention\.", r"decoder.layers.\1.cross_attn."),
    (r"layers\.(\d+)\.cross_norm\.", r"decoder.layers.\1.norm1."),
    (r"layers\.(\d+)\.ffn\.layers\.0\.", r"decoder.layers.\1.linear1."),
    (r"layers\.(\d+)\.ffn\.layers\.1\.", r"decoder.layers.\1.linear2."),
    (r"layers\.(\d+)\.ffn_norm\.", r"decoder.layers.\1.norm3."),
    (r"norm\.", "decoder_norm."),
    (r"box_head\.", "_bbox_embed."),
    (r"mask_head\.", "mask_embed."),
    (r"quality_head\.", "iou_prediction_head."),
    (r"(class_embed|class_embed_part|lang_mapper)$", r"\1"),
)


def _published(name: str) -> tuple[str, ...]:
    """Return the one published name of a tensor of ours; none for what it does not have."""
    part, _, rest = name.partition(".")
    if part == "backbone":
        return (_BACKBONE + published_swin_name(rest),)
    if part == "pixel_decoder":
        return (_PIXEL_DECODER + published_pixel_decoder_name(rest),)
    published = replaced_start(rest, _DECODER_STARTS) if part == "decoder" else ""
    return (_PREDICTOR + published,) if published else ()


def _alias(name: str) -> str | None:
    """Return what a published name repeats: one box head is stored 19 times, one norm twice."""
    found = re.fullmatch(
        re.escape(_PREDICTOR) + r"(?:(decoder\.)?bbox_embed\.\d+|decoder\.norm)\.(.+)", name
    )
    if found is None:
        return None
    shared = "decoder_norm." if "decoder.norm." in name else "_bbox_embed."
    return _PREDICTOR + shared + found[2]


def _computed_values(native: Weights) -> dict[str, Tensor]:
    """Return the tables of relative positions, and all repetitions, from our tensors."""
    layers = {name.split(".")[2] for name in native if name.startswith("decoder.layers.")}
    values: dict[str, Tensor] = {}
    for name, tensor in native.items():
        for published in _published(name):
            values |= computed_swin_value(published, tensor)
        if name.startswith("decoder.norm."):
            values[_PREDICTOR + name] = tensor
        elif name.startswith("decoder.box_head."):
            rest = name.removeprefix("decoder.box_head.")
            for start in ("", "decoder."):
                for layer in layers:
                    values[f"{_PREDICTOR}{start}bbox_embed.{layer}.{rest}"] = tensor
    return values


def _matches(weights: Weights) -> bool:
    return _PREDICTOR + "pb_embedding.weight" in weights


def _recipe(weights: Weights) -> Recipe:
    size = "L" if len(weights[_BACKBONE + "patch_embed.norm.weight"]) == 192 else "T"
    tokens = len(weights[_PREDICTOR + "mask_tokens.weight"])
    overrides = () if tokens == 6 else ("MODEL.PROMPTED_DECODER.NUM_TOKENS", tokens)
    return Recipe(f"unsam/promptable_Swin{size}.yaml", overrides)


UNSAM_PROMPTABLE = Layout(
    name="unsam_promptable",
    title="UnSAM promptable",
    matches=_matches,
    recipe=_recipe,
    published=_published,
    aliases=_alias,
    # The weights of the class loss, which is multiplied by zero, and the tables above.
    computed=(rf"model\.backbone\.{COMPUTED_SWIN_NAMES}", r"model\.criterion\.empty_weight"),
    computed_values=_computed_values,
)
