"""What the published Swin Transformers call their tensors, in terms of this project's names."""

from __future__ import annotations

import re

_RULES = (
    (r"^patch_embedding\.", "patch_embed.proj."),
    (r"^patch_norm\.", "patch_embed.norm."),
    (r"^stages\.", "layers."),
    (r"^merges\.(\d)\.norm\.", r"layers.\1.downsample.norm."),
    (r"^merges\.(\d)\.reduce\.", r"layers.\1.downsample.reduction."),
    (r"^norms\.(\d)\.", r"norm\1."),
    (r"\.attention\.offset_bias$", ".attn.relative_position_bias_table"),
    (r"\.attention\.project\.", ".attn.proj."),
    (r"\.attention\.", ".attn."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
)

COMPUTED_SWIN_NAMES = r"layers\.\d\.blocks\.\d+\.attn\.relative_position_index"
"""Regular expression of the published names that follow from the window's size."""


def published_swin_name(name: str) -> str:
    """Return the published name of a tensor of `SwinTransformer`.

    For example ``stages.2.blocks.5.attention.qkv.weight`` is
    ``layers.2.blocks.5.attn.qkv.weight``, and ``norms.3.bias`` is ``norm3.bias``.
    """
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return name
