"""UnSAMv2 and UnSAMv2+: SAM 2.1 with granularity (arXiv 2511.13714), ``unsamv2*.pt``."""

from __future__ import annotations

import re

from unsam.checkpoint.layouts.base import Layout, Recipe, Weights
from unsam.checkpoint.layouts.sam2 import is_sam2, sam2_name, sam2_recipe

_MASK_TOKEN = "sam_mask_decoder.gra_token.weight"
_FOURIER = "sam_prompt_encoder.fourier_embedder.mlp.mlp"
_HYPERNETWORK = "sam_mask_decoder.gra_output_token_mlp.layers"
# A layer with a low-rank update, and one of its tensors.
_UPDATED = re.compile(
    r"(sam_mask_decoder\.transformer\.(?:.*\.)?[a-z_]*attn[a-z_]*\.(?:q|k|v|out)_proj)"
    r"\.(weight|bias)"
)


def _added_name(name: str) -> tuple[str, ...]:
    """Return the published names of what is ours beside SAM 2."""
    name = name.removeprefix("granularity.")
    if name == "mask_token":
        return (_MASK_TOKEN,)
    if name == "encoding.type_embedding":
        return ("sam_prompt_encoder.granularity_embedding.weight",)
    if found := re.fullmatch(r"encoding\.mlp\.layers\.(\d)\.(weight|bias)", name):
        # Activation and dropout follow each layer in the authors' list.
        return (f"{_FOURIER}.{3 * int(found[1])}.{found[2]}",)
    if found := re.fullmatch(r"hypernetwork\.layers\.(\d\.(?:weight|bias))", name):
        return (f"{_HYPERNETWORK}.{found[1]}",)
    return ()


def _name_merged(name: str) -> tuple[str, ...]:
    return sam2_name(name) or _added_name(name)


def _name(name: str) -> tuple[str, ...]:
    if found := re.fullmatch(r"(.*\.)lora_([ab])", name):
        layer = sam2_name(f"{found[1]}weight")[0].removesuffix("weight")
        return (f"{layer}lora_{found[2].upper()}",)
    names = _name_merged(name)
    if len(names) == 1 and (found := _UPDATED.fullmatch(names[0])):
        return (f"{found[1]}.original_layer.{found[2]}",)
    return names


def _recipe(weights: Weights) -> Recipe:
    """Return the published config, with what differs from it."""
    size, version = sam2_recipe(weights)
    fourier_dim = weights[f"{_FOURIER}.0.weight"].shape[1]
    ranks = {len(tensor) for name, tensor in weights.items() if name.endswith(".lora_A")}
    found = {
        "MODEL.SAM2.SIZE": (size, "small"),
        "MODEL.SAM2.VERSION": (version, "2.1"),
        "MODEL.GRANULARITY.FOURIER_DIM": (fourier_dim, 128),
        "MODEL.GRANULARITY.LORA_RANK": (max(ranks, default=0), 8),
    }
    overrides: list[object] = []
    for key, (value, published) in found.items():
        if value != published:
            overrides += [key, value]
    return Recipe("unsamv2/sam2_hiera_small.yaml", tuple(overrides))


def _is_updated(weights: Weights) -> bool:
    return any(name.endswith(".lora_A") for name in weights)


UNSAMV2 = Layout(
    name="unsamv2",
    title="UnSAMv2",
    matches=lambda weights: is_sam2(weights) and _MASK_TOKEN in weights and _is_updated(weights),
    recipe=_recipe,
    published=_name,
)
"""The published files: SAM 2's tensors, low-rank updates beside 28 of them, granularity."""

UNSAMV2_MERGED = Layout(
    name="unsamv2_merged",
    title="UnSAMv2 with merged updates",
    matches=lambda weights: (
        is_sam2(weights) and _MASK_TOKEN in weights and not _is_updated(weights)
    ),
    recipe=_recipe,
    published=_name_merged,
)
"""The same with the updates added to the weights that they are of."""
