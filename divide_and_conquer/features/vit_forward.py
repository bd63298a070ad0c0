"""One pass of a timm ViT up to the features of its patches, without hooks.

Covers the two classes of timm that the DINO family comes in: `VisionTransformer` (DINO, DINOv2:
learned positions) and `Eva` (DINOv3: rotary positions).
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from divide_and_conquer.features.patch_grid import resize_positions

OUTPUTS = ("keys", "tokens")
TimmVit = VisionTransformer | Eva


def patch_features(model: TimmVit, pixels: Tensor, output: str) -> Tensor:
    """Return the features of all patches.

    Args:
        model: a timm `VisionTransformer` or `Eva`, built with ``dynamic_img_size=True``.
        pixels: ``float32 [B, 3, H, W]``, normalised; H and W whole patches.
        output: "keys" of the last block, before any rotation, heads one after the other (UnSAM,
            MaskCut); or "tokens", the patch tokens after the final norm (UnSAMv2).

    Returns:
        ``[B, H / patch, W / patch, D]``, without class and register tokens.
    """
    tokens, rope, grid = embed(model, pixels)
    blocks = list(model.blocks)
    for block in blocks[:-1]:
        tokens = apply_block(block, tokens, rope)
    if output == "keys":
        features = _keys(blocks[-1], tokens)
    else:
        features = model.norm(apply_block(blocks[-1], tokens, rope))
    patches = features[:, model.num_prefix_tokens :]
    return patches.unflatten(1, grid)


def embed(model: TimmVit, pixels: Tensor) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
    """Return what enters the first block.

    Returns:
        ``(tokens [B, prefix + rows * columns, D], rope or None, (rows, columns))``; the prefix
        is the class token and the registers.
    """
    patches = model.patch_embed(pixels)
    grid = (patches.shape[1], patches.shape[2])
    patches = patches.flatten(1, 2)
    prefix = [
        token.expand(len(patches), -1, -1)
        for token in (model.cls_token, model.reg_token)
        if token is not None
    ]
    if model.pos_embed is not None:
        # Where the class token has no position of its own, registers have none either.
        own = 0 if model.no_embed_class else model.num_prefix_tokens
        base = model.patch_embed.grid_size
        patches = patches + resize_positions(
            model.pos_embed[:, own:], base, grid, ratio=model.reg_token is not None
        )
        if own:
            prefix = [torch.cat(prefix, dim=1) + model.pos_embed[:, :own]]
    rotary: Any = model.rope if isinstance(model, Eva) else None
    rope = None if rotary is None else rotary.get_embed(shape=list(grid))
    tokens: Tensor = model.norm_pre(torch.cat([*prefix, patches], dim=1))
    return tokens, rope, grid


def apply_block(block: Any, tokens: Tensor, rope: Tensor | None) -> Tensor:
    """Return the output of one block for ``[B, N, D]``."""
    return block(tokens) if rope is None else block(tokens, rope=rope)


def _keys(block: Any, tokens: Tensor) -> Tensor:
    """Return the keys ``[B, N, D]`` of a block: a third of its joint projection."""
    qkv = block.attn.qkv
    width = qkv.out_features // 3
    rows = slice(width, 2 * width)
    # DINOv3's keys have no bias; its joint projection in timm holds none at all.
    bias = None if qkv.bias is None else qkv.bias[rows]
    return F.linear(block.norm1(tokens), qkv.weight[rows], bias)


def is_supported(model: nn.Module) -> TypeGuard[TimmVit]:
    """Whether `model` is a ViT that `patch_features` can run."""
    if not isinstance(model, (VisionTransformer, Eva)) or len(model.blocks) == 0:
        return False
    joint = isinstance(getattr(model.blocks[-1].attn, "qkv", None), nn.Linear)
    rotary = not isinstance(model, Eva) or model.rope is not None
    return joint and rotary and model.cls_token is not None
