"""The decoder of the transformers library with the weights of ours, to compare with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerMaskedAttentionDecoder,
)

from unsam.modeling.mask2former import MaskedAttentionDecoder
from unsam.modeling.pixel_decoder import PixelFeatures, sine_position


class TransformersDecoder:
    """Calls the library's decoder on our inputs.

    Args:
        ours: the decoder whose weights are copied, in its type.
    """

    def __init__(self, ours: MaskedAttentionDecoder) -> None:
        self.ours = ours
        dim = ours.norm.normalized_shape[0]
        layer = ours.layers[0]
        config = Mask2FormerConfig(
            hidden_dim=dim,
            mask_feature_size=ours.mask_head.layers[-1].out_features,
            num_attention_heads=layer.self_attention.num_heads,
            dim_feedforward=layer.mlp.layers[0].out_features,
            decoder_layers=len(ours.layers) + 1,
            dropout=0.0,
            pre_norm=False,
        )
        self.theirs = Mask2FormerMaskedAttentionDecoder(config).to(ours.norm.weight.dtype).eval()
        self.theirs.load_state_dict(_their_weights(ours.state_dict()))

    def __call__(self, features: PixelFeatures) -> tuple[list[Tensor], list[Tensor]]:
        """Return class logits ``[B, Q, 2]`` and mask logits ``[B, Q, h, w]`` of each output."""
        B = len(features.mask_features)
        memory, position = [], []
        for index, level in enumerate(features.levels):
            height, width = level.shape[-2:]
            tokens = level.flatten(2).permute(2, 0, 1) + self.ours.level_embedding.weight[index]
            waves = sine_position(
                height, width, level.shape[1], device=level.device, dtype=level.dtype
            )
            memory.append(tokens)
            position.append(waves[:, None].expand(-1, B, -1))
        found = self.theirs(
            inputs_embeds=self.ours.query_features.weight[:, None].expand(-1, B, -1),
            multi_stage_positional_embeddings=position,
            pixel_embeddings=features.mask_features,
            encoder_hidden_states=memory,
            query_position_embeddings=self.ours.query_positions.weight[:, None].expand(-1, B, -1),
            feature_size_list=[level.shape[-2:] for level in features.levels],
        )
        head = self.ours.class_head
        classes = [
            F.linear(state, head.weight, head.bias).transpose(0, 1)
            for state in found.intermediate_hidden_states
        ]
        return classes, list(found.masks_queries_logits)


def _their_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in weights.items():
        if name.startswith(("layers.", "norm.", "mask_head.")):
            theirs = name.replace("mask_head.layers.", "mask_predictor.mask_embedder.")
            if theirs.startswith("mask_predictor"):
                theirs = theirs.replace(".weight", ".0.weight").replace(".bias", ".0.bias")
            theirs = theirs.replace("cross_attention.in_projection.", "cross_attn.in_proj_")
            theirs = theirs.replace("cross_attention.out_projection", "cross_attn.out_proj")
            theirs = theirs.replace("cross_norm", "cross_attn_layer_norm")
            theirs = theirs.replace("self_attention.out_projection", "self_attn.out_proj")
            theirs = theirs.replace("self_norm", "self_attn_layer_norm")
            theirs = theirs.replace("mlp.layers.0", "fc1").replace("mlp.layers.1", "fc2")
            theirs = theirs.replace("mlp_norm", "final_layer_norm")
            theirs = theirs.replace("norm.", "layernorm.") if name.startswith("norm.") else theirs
            if "self_attention.in_projection" in theirs:
                for letter, part in zip("qkv", value.chunk(3), strict=True):
                    renamed[
                        theirs.replace("self_attention.in_projection", f"self_attn.{letter}_proj")
                    ] = part
            else:
                renamed[theirs] = value
    return renamed


def mask_logits(embeddings: Tensor, mask_features: Tensor) -> Tensor:
    """Return all masks ``[B, N, h, w]`` of embeddings ``[B, N, C]``."""
    return torch.einsum("bnc,bchw->bnhw", embeddings, mask_features)
