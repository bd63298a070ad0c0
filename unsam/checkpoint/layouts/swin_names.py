"""What the published Swin Transformers call their tensors, in terms of this project's names."""

from __future__ import annotations

import torch
from torch import Tensor

from unsam.checkpoint.layouts.renaming import replaced_everywhere

_BIAS_TABLE = "relative_position_bias_table"
_RULES = (
    (r"^patch_embedding\.", "patch_embed.proj."),
    (r"^patch_norm\.", "patch_embed.norm."),
    (r"^stages\.", "layers."),
    (r"^merges\.(\d)\.norm\.", r"layers.\1.downsample.norm."),
    (r"^merges\.(\d)\.reduce\.", r"layers.\1.downsample.reduction."),
    (r"^norms\.(\d)\.", r"norm\1."),
    (r"\.attention\.offset_bias$", f".attn.{_BIAS_TABLE}"),
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
    return replaced_everywhere(name, _RULES)


def computed_swin_value(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Return the published tensor that follows from another one, by name; mostly none.

    Args:
        name: published name of a tensor, whatever stands before it.
        tensor: its value. A table of biases ``[(2 w - 1)**2, heads]`` for windows of w * w cells
            has beside it, int64 ``[w * w, w * w]``, its row for each pair of cells.
    """
    if not name.endswith(_BIAS_TABLE):
        return {}
    reach = round(len(tensor) ** 0.5)
    side = (reach + 1) // 2
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    y, x = y.flatten(), x.flatten()
    down, right = y[:, None] - y + side - 1, x[:, None] - x + side - 1
    return {name.removesuffix(_BIAS_TABLE) + "relative_position_index": down * reach + right}
