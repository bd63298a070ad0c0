"""The configurations of transformers' models that hold the same networks as ours."""

from __future__ import annotations

from fvcore.common.config import CfgNode
from transformers import PretrainedConfig, SamConfig

from unsam.errors import CheckpointError
from unsam.modeling.sam.sam import ENCODERS
from unsam.modeling.sam2.architectures import SIZES, video_config


def transformers_config(cfg: CfgNode) -> PretrainedConfig:
    """Return the configuration of the `SamModel` or `Sam2VideoModel` that a config describes.

    Raises:
        CheckpointError: transformers has no such model.
    """
    size = cfg.INPUT.IMAGE_SIZE
    if cfg.MODEL.META_ARCHITECTURE == "Sam2":
        sam2 = video_config(SIZES[cfg.MODEL.SAM2.SIZE], str(cfg.MODEL.SAM2.VERSION), size)
        sam2.architectures = ["Sam2VideoModel"]
        return sam2
    if cfg.MODEL.META_ARCHITECTURE != "Sam":
        raise CheckpointError(
            f"transformers has no model for {cfg.MODEL.META_ARCHITECTURE}; convert to native"
        )
    encoder = ENCODERS[cfg.MODEL.SAM.SIZE]
    sam = SamConfig(
        vision_config={
            "hidden_size": encoder["embed_dim"],
            "num_hidden_layers": encoder["depth"],
            "num_attention_heads": encoder["num_heads"],
            "global_attn_indexes": list(encoder["global_blocks"]),
            "mlp_dim": 4 * encoder["embed_dim"],
            "image_size": size,
        },
        prompt_encoder_config={"image_size": size, "image_embedding_size": size // 16},
    )
    sam.architectures = ["SamModel"]
    return sam
