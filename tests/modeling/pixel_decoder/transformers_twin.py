"""The pixel decoder of `transformers` with the weights of ours, to compare with."""

from __future__ import annotations

import re

import torch
from torch import nn

from unsam.checkpoint.layouts.pixel_decoder_names import published_pixel_decoder_name
from unsam.modeling.pixel_decoder import DeformableAttention, DeformablePixelDecoder

# Published name to the name that transformers gave it.
_RENAMED = (
    (r"^input_proj\.", "input_projections."),
    (r"^transformer\.level_embed$", "level_embed"),
    (r"^transformer\.encoder\.", "encoder."),
    (r"\.norm1\.", ".self_attn_layer_norm."),
    (r"\.norm2\.", ".final_layer_norm."),
    (r"\.linear(\d)\.", r".fc\1."),
    (r"^(adapter_1|layer_1)\.norm\.", r"\1.1."),
    (r"^(adapter_1|layer_1)\.weight$", r"\1.0.weight"),
    (r"^mask_features\.", "mask_projection."),
)


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Give every parameter a value that matters; offsets reach out of small maps now and then."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
        parameter.data.copy_(noise * scale + (parameter.data if parameter.ndim == 1 else 0))


def transformers_attention(ours: DeformableAttention) -> nn.Module:
    from transformers.models.mask2former import modeling_mask2former as library

    twin = library.Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention(
        ours.value_proj.in_features, ours.num_heads, ours.num_levels, ours.num_points
    )
    twin.load_state_dict(ours.state_dict())
    return twin.eval()


def transformers_pixel_decoder(ours: DeformablePixelDecoder) -> nn.Module:
    from transformers import Mask2FormerConfig
    from transformers.models.mask2former import modeling_mask2former as library

    first = ours.layers[0]
    config = Mask2FormerConfig(
        feature_size=ours.lateral.conv.out_channels,
        mask_feature_size=ours.mask_projection.out_channels,
        encoder_feedforward_dim=first.mlp.layers[0].out_features,
        encoder_layers=len(ours.layers),
        num_attention_heads=first.attention.num_heads,
        dropout=0.0,
    )
    channels = [ours.lateral.conv.in_channels] + [
        projection.conv.in_channels for projection in list(ours.input_projections)[::-1]
    ]
    twin = library.Mask2FormerPixelDecoder(config, channels)
    weights = {}
    for name, value in ours.state_dict().items():
        theirs = published_pixel_decoder_name(name)
        for pattern, replacement in _RENAMED:
            theirs = re.sub(pattern, replacement, theirs)
        weights[theirs] = value
    twin.load_state_dict(weights)
    return twin.eval()
