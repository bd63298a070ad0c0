"""Whole-image UnSAM as `transformers` names it: ``Mask2FormerForUniversalSegmentation``."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from unsam.checkpoint.layouts.base import Layout, Recipe, Weights
from unsam.checkpoint.layouts.renaming import Rules, replaced_start

_BACKBONE = "model.pixel_level_module.encoder."
_PIXELS = "model.pixel_level_module.decoder."
_TRANSFORMER = "model.transformer_module."
_QUERIES = _TRANSFORMER + "queries_features.weight"
_CLASSES = "class_predictor.weight"
_RESNET_STEM = _BACKBONE + "embedder.embedder.convolution.weight"
_SWIN_STEM = _BACKBONE + "embeddings.patch_embeddings.projection.weight"
_LAST_SWIN_NORM = "backbone.norms.3."
# Their Swin ends with a norm; their Mask2Former reads the maps before it.
_UNUSED_NORM = _BACKBONE + "swin.layernorm."
_SWIN_LETTERS = {96: "T", 192: "L"}
_NUM_QUERIES = 2000

# Ours to theirs, each for the start of a name; the first that fits counts. Where <a|b|c> stands,
# they have one tensor for each third of ours.
_PARTS: Rules = (
    (r"pixel_decoder\.level_embedding$", _PIXELS + "level_embed"),
    (r"pixel_decoder\.input_projections\.(\d)\.conv\.", _PIXELS + r"input_projections.\1.0."),
    (r"pixel_decoder\.input_projections\.(\d)\.norm\.", _PIXELS + r"input_projections.\1.1."),
    (r"pixel_decoder\.lateral\.conv\.", _PIXELS + "adapter_1.0."),
    (r"pixel_decoder\.lateral\.norm\.", _PIXELS + "adapter_1.1."),
    (r"pixel_decoder\.output\.conv\.", _PIXELS + "layer_1.0."),
    (r"pixel_decoder\.output\.norm\.", _PIXELS + "layer_1.1."),
    (r"pixel_decoder\.mask_projection\.", _PIXELS + "mask_projection."),
    (r"query_decoder\.query_features\.", _TRANSFORMER + "queries_features."),
    (r"query_decoder\.query_positions\.", _TRANSFORMER + "queries_embedder."),
    (r"query_decoder\.level_embedding\.", _TRANSFORMER + "level_embed."),
    (r"query_decoder\.norm\.", _TRANSFORMER + "decoder.layernorm."),
    (
        r"query_decoder\.mask_head\.layers\.(\d)\.",
        _TRANSFORMER + r"decoder.mask_predictor.mask_embedder.\1.0.",
    ),
    (r"query_decoder\.class_head\.", "class_predictor."),
    (r"backbone\.conv1\.", _BACKBONE + "embedder.embedder.convolution."),
    (r"backbone\.bn1\.", _BACKBONE + "embedder.embedder.normalization."),
    (r"backbone\.patch_embedding\.", _BACKBONE + "embeddings.patch_embeddings.projection."),
    (r"backbone\.patch_norm\.", _BACKBONE + "embeddings.norm."),
    (r"backbone\.merges\.(\d)\.norm\.", _BACKBONE + r"encoder.layers.\1.downsample.norm."),
    (r"backbone\.merges\.(\d)\.reduce\.", _BACKBONE + r"encoder.layers.\1.downsample.reduction."),
    (
        r"backbone\.norms\.(\d)\.",
        lambda found: f"{_BACKBONE}hidden_states_norms.stage{int(found[1]) + 1}.",
    ),
)
_MLP: Rules = (
    (r"mlp\.layers\.0\.", "fc1."),
    (r"mlp\.layers\.1\.", "fc2."),
    (r"mlp_norm\.", "final_layer_norm."),
)
_PIXEL_LAYER: Rules = (
    *_MLP,
    (r"attention\.", "self_attn."),
    (r"attention_norm\.", "self_attn_layer_norm."),
)
_QUERY_LAYER: Rules = (
    *_MLP,
    (r"cross_attention\.in_projection\.", "cross_attn.in_proj_"),
    (r"cross_attention\.out_projection\.", "cross_attn.out_proj."),
    (r"cross_norm\.", "cross_attn_layer_norm."),
    (r"self_attention\.in_projection\.", "self_attn.<q|k|v>_proj."),
    (r"self_attention\.out_projection\.", "self_attn.out_proj."),
    (r"self_norm\.", "self_attn_layer_norm."),
)
_RESNET_BLOCK: Rules = (
    (r"conv(\d)\.", lambda found: f"layer.{int(found[1]) - 1}.convolution."),
    (r"bn(\d)\.", lambda found: f"layer.{int(found[1]) - 1}.normalization."),
    (r"downsample\.0\.", "shortcut.convolution."),
    (r"downsample\.1\.", "shortcut.normalization."),
)
_SWIN_BLOCK: Rules = (
    (r"norm1\.", "layernorm_before."),
    (r"norm2\.", "layernorm_after."),
    (r"attention\.qkv\.", "attention.self.<query|key|value>."),
    (r"attention\.offset_bias$", "attention.self.relative_position_bias_table"),
    (r"attention\.project\.", "attention.output.dense."),
    (r"mlp\.0\.", "intermediate.dense."),
    (r"mlp\.2\.", "output.dense."),
)
_LAYERS: tuple[tuple[str, Callable[[re.Match[str]], str], Rules], ...] = (
    (
        r"pixel_decoder\.layers\.(\d+)\.",
        lambda found: f"{_PIXELS}encoder.layers.{found[1]}.",
        _PIXEL_LAYER,
    ),
    (
        r"query_decoder\.layers\.(\d+)\.",
        lambda found: f"{_TRANSFORMER}decoder.layers.{found[1]}.",
        _QUERY_LAYER,
    ),
    (
        r"backbone\.layer(\d)\.(\d)\.",
        lambda found: f"{_BACKBONE}encoder.stages.{int(found[1]) - 1}.layers.{found[2]}.",
        _RESNET_BLOCK,
    ),
    (
        r"backbone\.stages\.(\d)\.blocks\.(\d+)\.",
        lambda found: f"{_BACKBONE}encoder.layers.{found[1]}.blocks.{found[2]}.",
        _SWIN_BLOCK,
    ),
)


def _published(name: str) -> tuple[str, ...]:
    for start, place, rules in _LAYERS:
        if found := re.match(start, name):
            inner = replaced_start(name[found.end() :], rules)
            return _thirds(place(found) + inner) if inner else ()
    renamed = replaced_start(name, _PARTS)
    return (renamed,) if renamed else ()


def _thirds(name: str) -> tuple[str, ...]:
    """Return ``x.q.y``, ``x.k.y`` and ``x.v.y`` of ``x.<q|k|v>.y``; other names as they are."""
    start, opening, rest = name.partition("<")
    choices, _, end = rest.partition(">")
    return tuple(f"{start}{choice}{end}" for choice in choices.split("|")) if opening else (name,)


def _matches(weights: Weights) -> bool:
    # Mask2Former for other data has the same names but more classes.
    return (
        (_RESNET_STEM in weights or _SWIN_STEM in weights)
        and _QUERIES in weights
        and _CLASSES in weights
        and len(weights[_CLASSES]) == 2
    )


def _recipe(weights: Weights) -> Recipe:
    num_queries = len(weights[_QUERIES])
    overrides: tuple[object, ...] = ()
    if num_queries != _NUM_QUERIES:
        overrides = ("MODEL.QUERY_DECODER.NUM_QUERIES", num_queries)
    backbone = "R50"
    if _SWIN_STEM in weights:
        backbone = "Swin" + _SWIN_LETTERS.get(len(weights[_SWIN_STEM]), "L")
    return Recipe(f"unsam/whole_image_{backbone}.yaml", overrides)


def _computed_values(native: Weights) -> dict[str, Tensor]:
    """Return what their model has besides: class weights of the loss, counters, an unused norm."""
    values = {"criterion.empty_weight": torch.tensor((1.0, 0.1))}
    for name, tensor in native.items():
        if name.endswith(".running_mean"):
            counter = _published(name)[0].replace("running_mean", "num_batches_tracked")
            values[counter] = torch.tensor(0)
        elif name == _LAST_SWIN_NORM + "weight":
            values[_UNUSED_NORM + "weight"] = torch.ones_like(tensor)
            values[_UNUSED_NORM + "bias"] = torch.zeros_like(tensor)
    return values


UNSAM_WHOLE_HUB = Layout(
    name="unsam_whole_hub",
    title="UnSAM, whole image (Mask2Former) of transformers",
    matches=_matches,
    recipe=_recipe,
    published=_published,
    computed=(
        r"criterion\.empty_weight",
        r".*\.num_batches_tracked",
        re.escape(_UNUSED_NORM) + r"(weight|bias)",
        # Files of earlier versions of transformers have it.
        r".*\.relative_position_index",
    ),
    computed_values=_computed_values,
    wrapper="",
    fresh=(r"query_decoder\.film\..*",),
)
"""``convert-checkpoint --to huggingface``: 647 tensors with a ResNet-50 backbone."""
