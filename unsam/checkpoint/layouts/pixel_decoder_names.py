"""What published checkpoints call the tensors of the pixel decoder."""

from __future__ import annotations

from unsam.checkpoint.layouts.renaming import replaced_start

# Ours to theirs, each for the start of a name; the first that fits counts.
_STARTS = (
    (r"input_projections\.(\d+)\.conv\.", r"input_proj.\1.0."),
    (r"input_projections\.(\d+)\.norm\.", r"input_proj.\1.1."),
    (r"level_embedding$", r"transformer.level_embed"),
    (r"layers\.(\d+)\.attention\.", r"transformer.encoder.layers.\1.self_attn."),
    (r"layers\.(\d+)\.attention_norm\.", r"transformer.encoder.layers.\1.norm1."),
    (r"layers\.(\d+)\.mlp\.layers\.0\.", r"transformer.encoder.layers.\1.linear1."),
    (r"layers\.(\d+)\.mlp\.layers\.1\.", r"transformer.encoder.layers.\1.linear2."),
    (r"layers\.(\d+)\.mlp_norm\.", r"transformer.encoder.layers.\1.norm2."),
    (r"lateral\.conv\.", r"adapter_1."),
    (r"lateral\.norm\.", r"adapter_1.norm."),
    (r"output\.conv\.", r"layer_1."),
    (r"output\.norm\.", r"layer_1.norm."),
    (r"mask_projection\.", r"mask_features."),
)


def published_pixel_decoder_name(native: str) -> str:
    """Return the published name of a tensor, relative to ``sem_seg_head.pixel_decoder.``.

    Mask2Former and promptable UnSAM name them alike.

    Args:
        native: our name, relative to the pixel decoder: ``layers.0.attention_norm.weight``.

    Raises:
        ValueError: the pixel decoder has no such tensor.
    """
    published = replaced_start(native, _STARTS)
    if not published:
        raise ValueError(
            f"'{native}' is no tensor of the pixel decoder; expected one of its own names"
        )
    return published
