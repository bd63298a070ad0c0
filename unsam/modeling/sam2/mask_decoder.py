"""The mask decoder of SAM 2 with UnSAMv2's granularity token, on the weights of `transformers`.

UnSAMv2 is arXiv 2511.13714, §3.2. The library's own decoder answers prompts without granularity;
this one answers those with it, and prompts of unequal length. What the prompts of a photo have in
common is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unsam.modeling.granular_parts import GranularityParts
from unsam.modeling.prompts import spread
from unsam.modeling.sam2.image_encoder import Sam2Features


@dataclass(frozen=True)
class Answers:
    """What the decoder says about P prompts, M masks each.

    Attributes:
        logits: float ``[P, M, h, w]``, over 0 in the mask.
        quality: float ``[P, M]``, predicted IoU.
        object_score: float ``[P]``, over 0 where the model sees an object at all.
    """

    logits: Tensor
    quality: Tensor
    object_score: Tensor


@dataclass(frozen=True)
class EncodedPrompts:
    """P prompts as the decoder takes them.

    Attributes:
        sparse: float ``[P, N, 256]``, points, the library's closing token, granularity.
        real: bool ``[P, N]``, False for padding, which nothing attends to; None without any.
        dense: float ``[P, 256, h, w]`` of earlier masks, or ``[1, 256, 1, 1]`` for none.
        image_of_prompt: int64 ``[P]``.
    """

    sparse: Tensor
    real: Tensor | None
    dense: Tensor
    image_of_prompt: Tensor


def answer_plain(
    decoder: Any, features: Sam2Features, prompts: EncodedPrompts, several: bool
) -> Answers:
    """Answer with the library's decoder, to the last bit what the library would answer.

    Args:
        decoder: the library's mask decoder.
        features: of B photos.
        prompts: without padding and without granularity.
        several: three masks per prompt, or one.
    """
    owner = prompts.image_of_prompt
    sparse = prompts.sparse[None]
    embedding, fine, middle = features.embedding, features.fine, features.middle
    dense = prompts.dense
    if len(features.embedding) > 1 or len(dense) > 1:
        # One "photo" for each prompt: the library has no prompts of different photos in one run.
        embedding, fine, middle = (spread(x, owner) for x in (embedding, fine, middle))
        sparse = prompts.sparse[:, None]
    logits, quality, _, score = decoder(
        image_embeddings=embedding,
        image_positional_embeddings=features.position.expand(len(embedding), -1, -1, -1),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=several,
        high_resolution_features=[fine, middle],
    )
    return Answers(logits.flatten(0, 1), quality.flatten(0, 1), score.flatten())


def answer_granular(
    decoder: Any,
    parts: GranularityParts,
    features: Sam2Features,
    prompts: EncodedPrompts,
    several: bool,
) -> Answers:
    """Answer prompts with the one mask of the granularity token.

    Args:
        decoder: the library's mask decoder.
        parts: the granularity token and its hypernetwork.
        features: of B photos.
        prompts: the last sparse token is the granularity.
        several: of published weights, take the quality from the best of the three heads for
            several masks instead of the head for one (UnSAMv2's ``multimask_output``).
    """
    own = torch.cat((_own_tokens(decoder), parts.mask_token))
    tokens, cells = _transform(decoder, features, prompts, own)
    weights = parts.hypernetwork(tokens[:, len(own) - 1])
    quality = parts.quality(tokens[:, 1], tokens[:, len(own) - 1])
    if quality is None:
        heads = decoder.iou_prediction_head(tokens[:, 1])
        quality = heads[:, 1:].amax(1) if several else heads[:, 0]
    return Answers(
        logits=_masks(decoder, cells, features, prompts.image_of_prompt, weights[:, None]),
        quality=quality[:, None],
        object_score=decoder.pred_obj_score_head(tokens[:, 0])[:, 0],
    )


def answer_padded(
    decoder: Any, features: Sam2Features, prompts: EncodedPrompts, several: bool
) -> Answers:
    """Answer prompts without granularity some of which have padding; as `answer_plain`."""
    tokens, cells = _transform(decoder, features, prompts, _own_tokens(decoder))
    weights = torch.stack(
        [mlp(tokens[:, 2 + slot]) for slot, mlp in enumerate(decoder.output_hypernetworks_mlps)], 1
    )
    logits = _masks(decoder, cells, features, prompts.image_of_prompt, weights)
    quality = decoder.iou_prediction_head(tokens[:, 1])
    if several:
        logits, quality = logits[:, 1:], quality[:, 1:]
    elif decoder.dynamic_multimask_via_stability and not decoder.training:
        logits, quality = decoder._dynamic_multimask_via_stability(logits[None], quality[None])
        logits, quality = logits[0], quality[0]
    else:
        logits, quality = logits[:, :1], quality[:, :1]
    return Answers(logits, quality, decoder.pred_obj_score_head(tokens[:, 0])[:, 0])


def _own_tokens(decoder: Any) -> Tensor:
    """Return the object score, IoU and four mask tokens, ``[6, 256]``."""
    tokens = (decoder.obj_score_token, decoder.iou_token, decoder.mask_tokens)
    return torch.cat([token.weight for token in tokens])


def _transform(
    decoder: Any, features: Sam2Features, prompts: EncodedPrompts, own: Tensor
) -> tuple[Tensor, Tensor]:
    """Let tokens and image attend to each other.

    Returns:
        Tokens ``[P, T, 256]``, the decoder's own first, and cells ``[P, h w, 256]``.
    """
    count = len(prompts.sparse)
    tokens = torch.cat((own.expand(count, -1, -1), prompts.sparse), dim=1)
    real = prompts.real
    if real is not None:
        real = torch.cat((real.new_ones(count, len(own)), real), dim=1)
    embedding, owner = features.embedding, prompts.image_of_prompt
    is_shared = prompts.dense.shape[-1] == 1
    if not is_shared:
        embedding = spread(embedding, owner)
    cells = (embedding + prompts.dense).flatten(2).transpose(1, 2).contiguous()
    position = features.position.flatten(2).transpose(1, 2).contiguous()
    return _two_way(
        decoder.transformer, tokens, cells, position, real, owner if is_shared else None
    )


def _two_way(
    transformer: Any,
    tokens: Tensor,
    cells: Tensor,
    position: Tensor,
    real: Tensor | None,
    owner: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Run SAM's two-way transformer; with `owner`, cells come once per photo."""
    code = tokens
    for layer in transformer.layers:
        query = tokens if layer.skip_first_layer_pe else tokens + code
        attended = _attention(layer.self_attn, query, query, tokens, real)
        tokens = attended if layer.skip_first_layer_pe else tokens + attended
        tokens = layer.layer_norm1(tokens)
        keys = cells + position
        attended = _attention(
            layer.cross_attn_token_to_image, tokens + code, keys, cells, k_owner=owner
        )
        tokens = layer.layer_norm2(tokens + attended)
        tokens = layer.layer_norm3(tokens + layer.mlp(tokens))
        attended = _attention(
            layer.cross_attn_image_to_token, keys, tokens + code, tokens, real, q_owner=owner
        )
        if owner is not None:
            cells, owner = spread(cells, owner), None
        cells = layer.layer_norm4(cells + attended)
    attended = _attention(
        transformer.final_attn_token_to_image, tokens + code, cells + position, cells
    )
    return transformer.layer_norm_final_attn(tokens + attended), cells


def _attention(
    attention: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    real: Tensor | None = None,
    *,
    q_owner: Tensor | None = None,
    k_owner: Tensor | None = None,
) -> Tensor:
    """Attend from ``q [P, Nq, C]`` to ``k`` and ``v [P, Nk, C]``.

    Queries with `q_owner`, keys and values with `k_owner` come once per photo: they are projected
    per photo and spread over its prompts after.
    """
    heads = attention.num_attention_heads

    def split(x: Tensor, owner: Tensor | None) -> Tensor:
        x = x.unflatten(-1, (heads, -1)).transpose(1, 2)
        return x if owner is None else spread(x, owner)

    q, k, v = attention.q_proj(q), attention.k_proj(k), attention.v_proj(v)
    mask = None if real is None else real[:, None, None]
    attended = F.scaled_dot_product_attention(
        split(q, q_owner), split(k, k_owner), split(v, k_owner), attn_mask=mask
    )
    return attention.o_proj(attended.transpose(1, 2).flatten(2))


def _masks(
    decoder: Any, cells: Tensor, features: Sam2Features, owner: Tensor, weights: Tensor
) -> Tensor:
    """Upscale cells ``[P, h w, 256]`` and weigh them by ``[P, M, 32]``: ``[P, M, 4h, 4w]``."""
    x = cells.transpose(1, 2).unflatten(2, features.embedding.shape[-2:])
    x = decoder.upscale_conv1(x) + spread(features.middle, owner)
    x = decoder.activation(decoder.upscale_layer_norm(x))
    x = decoder.activation(decoder.upscale_conv2(x) + spread(features.fine, owner))
    return (weights @ x.flatten(2)).unflatten(2, x.shape[-2:])
