"""SAM 2 and 2.1: the authors' files (``sam2*_hiera_*.pt``) and those of `transformers`."""

from __future__ import annotations

import re

from torch import Tensor

from unsam.checkpoint.layouts.base import Layout, Recipe, Weights

GRANULARITY_NAMES = (r"granularity\..*", r".*\.lora_[ab]")
"""Our names of what UnSAMv2 adds to SAM 2."""

_NETWORK = "network."
# By width and number of blocks of the image encoder.
_SIZES = {(96, 12): "tiny", (96, 16): "small", (112, 24): "base_plus", (144, 48): "large"}
_CODE = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_POINT_KINDS = 4

# Where the library's parts are in the authors' files; the first that matches is replaced.
_PARTS = (
    (r"vision_encoder\.backbone\.patch_embed\.projection", "image_encoder.trunk.patch_embed.proj"),
    (r"vision_encoder\.backbone", "image_encoder.trunk"),
    (r"vision_encoder\.neck\.convs\.(\d)", r"image_encoder.neck.convs.\1.conv"),
    (r"prompt_encoder\.mask_embed\.conv1", "sam_prompt_encoder.mask_downscaling.0"),
    (r"prompt_encoder\.mask_embed\.layer_norm1", "sam_prompt_encoder.mask_downscaling.1"),
    (r"prompt_encoder\.mask_embed\.conv2", "sam_prompt_encoder.mask_downscaling.3"),
    (r"prompt_encoder\.mask_embed\.layer_norm2", "sam_prompt_encoder.mask_downscaling.4"),
    (r"prompt_encoder\.mask_embed\.conv3", "sam_prompt_encoder.mask_downscaling.6"),
    (r"prompt_encoder", "sam_prompt_encoder"),
    (r"mask_decoder\.upscale_conv1", "sam_mask_decoder.output_upscaling.0"),
    (r"mask_decoder\.upscale_layer_norm", "sam_mask_decoder.output_upscaling.1"),
    (r"mask_decoder\.upscale_conv2", "sam_mask_decoder.output_upscaling.3"),
    (r"mask_decoder", "sam_mask_decoder"),
    (r"memory_encoder\.feature_projection", "memory_encoder.pix_feat_proj"),
    (r"memory_encoder\.memory_fuser", "memory_encoder.fuser"),
    (r"memory_encoder\.projection", "memory_encoder.out_proj"),
    (r"memory_encoder\.mask_downsampler\.final_conv", "memory_encoder.mask_downsampler.encoder.12"),
    (r"memory_temporal_positional_encoding", "maskmem_tpos_enc"),
    (r"no_memory_embedding", "no_mem_embed"),
    (r"no_memory_positional_encoding", "no_mem_pos_enc"),
    (r"no_object_pointer", "no_obj_ptr"),
    (r"occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
    (r"object_pointer_proj", "obj_ptr_proj"),
    (r"temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
    (r"memory_attention|mask_downsample", r"\g<0>"),
)
# What layers inside those parts are called; the first that matches the end is replaced.
_LAYERS = (
    (r"((?:hypernetworks_mlps\.\d|_head|obj_ptr_proj)\.)layers\.0", r"\1layers.1"),
    (r"((?:hypernetworks_mlps\.\d|_head|obj_ptr_proj)\.)proj_out", r"\1layers.2"),
    (r"proj_in", "layers.0"),
    (r"proj_out", "layers.1"),
    (r"o_proj", "out_proj"),
    (r"(memory_attention|fuser\.layers\.\d)\.layer_norm", r"\1.norm"),
    (r"layer_norm(\d|_final_attn)", lambda found: "norm" + found[1]),
    (r"depthwise_conv", "dwconv"),
    (r"pointwise_conv(\d)", r"pwconv\1"),
)


def sam2_name(name: str) -> tuple[str, ...]:
    """Return the names in the authors' files of a tensor of ours; none for what is not SAM 2's."""
    if not name.startswith(_NETWORK) or ".lora_" in name:
        return ()
    name = name.removeprefix(_NETWORK)
    if name.endswith("positional_embedding"):
        return (_CODE,)
    if name == "prompt_encoder.point_embed.weight":
        kinds = range(_POINT_KINDS)
        return tuple(f"sam_prompt_encoder.point_embeddings.{kind}.weight" for kind in kinds)
    # The authors count convolution, norm and activation of the mask's downsampling as one list.
    downsampler = r"memory_encoder\.mask_downsampler\.layers\.(\d)\.(conv|layer_norm)"
    if found := re.match(downsampler, name):
        place = 3 * int(found[1]) + (found[2] == "layer_norm")
        return (f"memory_encoder.mask_downsampler.encoder.{place}{name[found.end() :]}",)
    for pattern, theirs in _PARTS:
        if found := re.match(pattern + r"\b", name):
            name = found.expand(theirs) + name[found.end() :]
            break
    else:
        return ()
    name = re.sub(r"(fuser\.layers\.\d)\.scale$", r"\1.gamma", name)
    for pattern, layer in _LAYERS:
        name, count = re.subn(rf"{pattern}(?=\.(weight|bias)$)", layer, name)
        if count:
            break
    return (name,)


def sam2_recipe(weights: Weights) -> tuple[str, str]:
    """Return size and version of the model that the authors' tensors are for."""
    width = len(weights["image_encoder.trunk.patch_embed.proj.weight"])
    pattern = r"image_encoder\.trunk\.blocks\.\d+\.norm1\.weight"
    blocks = sum(re.fullmatch(pattern, name) is not None for name in weights)
    version = "2.1" if "no_obj_embed_spatial" in weights else "2"
    return _SIZES.get((width, blocks), "small"), version


def _config(size: str, version: str) -> Recipe:
    return Recipe(f"sam2/sam2{'.1' if version == '2.1' else ''}_hiera_{size}.yaml")


def is_sam2(weights: Weights) -> bool:
    """Return whether tensors have the authors' names of SAM 2, with granularity or without."""
    return "image_encoder.trunk.pos_embed_window" in weights and _CODE in weights


SAM2 = Layout(
    name="sam2",
    title="SAM 2",
    matches=lambda weights: is_sam2(weights) and "sam_mask_decoder.gra_token.weight" not in weights,
    recipe=lambda weights: _config(*sam2_recipe(weights)),
    published=sam2_name,
    fresh=GRANULARITY_NAMES,
)
"""The authors' files, 2 and 2.1 alike."""


_HUB_CODE = "shared_image_embedding.positional_embedding"
_HUB_CODE_REPEAT = "prompt_encoder.shared_embedding.positional_embedding"


def _hub_name(name: str) -> tuple[str, ...]:
    if not name.startswith(_NETWORK) or name.endswith((".lora_a", ".lora_b")):
        return ()
    name = name.removeprefix(_NETWORK)
    return (_HUB_CODE if name == _HUB_CODE_REPEAT else name,)


def _hub_recipe(weights: Weights) -> Recipe:
    width = len(weights["vision_encoder.backbone.patch_embed.projection.weight"])
    pattern = r"vision_encoder\.backbone\.blocks\.\d+\.layer_norm1\.weight"
    blocks = sum(re.fullmatch(pattern, name) is not None for name in weights)
    version = "2.1" if "occlusion_spatial_embedding_parameter" in weights else "2"
    return _config(_SIZES.get((width, blocks), "small"), version)


def _hub_repeat(native: Weights) -> dict[str, Tensor]:
    return {_HUB_CODE_REPEAT: native[_NETWORK + _HUB_CODE_REPEAT].clone()}


SAM2_HUB = Layout(
    name="sam2_hub",
    title="SAM 2 of transformers",
    matches=lambda weights: (
        "vision_encoder.backbone.pos_embed_window" in weights and _HUB_CODE in weights
    ),
    recipe=_hub_recipe,
    published=_hub_name,
    aliases=lambda name: _HUB_CODE if name == _HUB_CODE_REPEAT else None,
    computed_values=_hub_repeat,
    wrapper="",
    fresh=GRANULARITY_NAMES,
)
"""``facebook/sam2-hiera-*`` and ``facebook/sam2.1-hiera-*`` on the Hugging Face hub."""
