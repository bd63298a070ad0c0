"""What transformers has to know about the same networks as ours: their shape, their input."""

from __future__ import annotations

from typing import Any

from fvcore.common.config import CfgNode
from transformers import (
    Mask2FormerConfig,
    Mask2FormerImageProcessor,
    PretrainedConfig,
    Sam2ImageProcessor,
    Sam2VideoProcessor,
    Sam2VideoVideoProcessor,
    SamConfig,
    SamImageProcessor,
    SamProcessor,
)

from unsam.errors import CheckpointError
from unsam.modeling.backbone.swin import SIZES as SWIN_SIZES
from unsam.modeling.sam.sam import ENCODERS
from unsam.modeling.sam2.architectures import SIZES, video_config

Processor = SamProcessor | Sam2VideoProcessor | Mask2FormerImageProcessor
"""What prepares photos for a model of transformers; ``save_pretrained(folder)`` writes it."""

_DIVISOR = 32
_MASK_STRIDE = 4
# Built into their Mask2Former.
_NUM_LEVELS = 3
_NUM_POINTS = 4


def transformers_config(cfg: CfgNode) -> PretrainedConfig:
    """Return the configuration of the model of transformers that a config describes.

    That of `SamModel`, `Sam2VideoModel` or `Mask2FormerForUniversalSegmentation`.

    Raises:
        CheckpointError: transformers has no such model.
    """
    architecture = cfg.MODEL.META_ARCHITECTURE
    if architecture == "Mask2Former":
        config: PretrainedConfig = _mask2former_config(cfg)
        name = "Mask2FormerForUniversalSegmentation"
    elif architecture == "Sam2":
        sam2 = cfg.MODEL.SAM2
        config = video_config(SIZES[sam2.SIZE], str(sam2.VERSION), cfg.INPUT.IMAGE_SIZE)
        name = "Sam2VideoModel"
    elif architecture == "Sam":
        config = _sam_config(cfg)
        name = "SamModel"
    else:
        raise CheckpointError(f"transformers has no model for {architecture}; convert to native")
    config.architectures = [name]
    return config


def transformers_processor(cfg: CfgNode) -> Processor:
    """Return what prepares photos for the model of `transformers_config`.

    It has our sizes, mean and deviation. Where our Mask2Former pads a photo to a multiple of 32
    pixels, theirs stretches it to one.

    Args:
        cfg: of an architecture that `transformers_config` takes.
    """
    size = cfg.INPUT.IMAGE_SIZE
    square = {"height": size, "width": size}
    mask_side = size // _MASK_STRIDE
    mask_square = {"height": mask_side, "width": mask_side}
    # They scale photos to [0, 1] first.
    scale: dict[str, Any] = {
        "image_mean": [value / 255 for value in cfg.INPUT.PIXEL_MEAN],
        "image_std": [value / 255 for value in cfg.INPUT.PIXEL_STD],
    }
    if cfg.MODEL.META_ARCHITECTURE == "Mask2Former":
        edges = {
            "shortest_edge": cfg.INPUT.SHORTER_SIDE,
            "longest_edge": cfg.INPUT.MAX_LONGER_SIDE,
        }
        return Mask2FormerImageProcessor(size=edges, size_divisor=_DIVISOR, num_labels=1, **scale)
    if cfg.MODEL.META_ARCHITECTURE == "Sam2":
        return Sam2VideoProcessor(
            Sam2ImageProcessor(size=square, mask_size=mask_square, **scale),
            Sam2VideoVideoProcessor(size=square, **scale),
            target_size=size,
        )
    return SamProcessor(
        SamImageProcessor(
            size={"longest_edge": size},
            pad_size=square,
            mask_size={"longest_edge": mask_side},
            mask_pad_size=mask_square,
            **scale,
        )
    )


def _sam_config(cfg: CfgNode) -> SamConfig:
    size = cfg.INPUT.IMAGE_SIZE
    encoder = ENCODERS[cfg.MODEL.SAM.SIZE]
    return SamConfig(
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


def _mask2former_config(cfg: CfgNode) -> Mask2FormerConfig:
    pixel, query = cfg.MODEL.PIXEL_DECODER, cfg.MODEL.QUERY_DECODER
    fixed = (
        ("MODEL.PIXEL_DECODER.NUM_LEVELS", pixel.NUM_LEVELS, _NUM_LEVELS),
        ("MODEL.PIXEL_DECODER.NUM_POINTS", pixel.NUM_POINTS, _NUM_POINTS),
        ("MODEL.PIXEL_DECODER.NUM_HEADS", pixel.NUM_HEADS, query.NUM_HEADS),
        ("MODEL.QUERY_DECODER.GRANULARITY", query.GRANULARITY, "none"),
    )
    for key, value, only in fixed:
        if value != only:
            raise CheckpointError(
                f"transformers' Mask2Former has {key} {only} alone, got {value}; convert to native"
            )
    return Mask2FormerConfig(
        backbone_config=_backbone_config(cfg),
        feature_size=pixel.DIM,
        hidden_dim=pixel.DIM,
        mask_feature_size=pixel.MASK_DIM,
        encoder_layers=pixel.NUM_LAYERS,
        encoder_feedforward_dim=pixel.FFN_DIM,
        # They count the predictions, of which one comes before the first layer.
        decoder_layers=query.NUM_LAYERS + 1,
        num_attention_heads=query.NUM_HEADS,
        dim_feedforward=query.FFN_DIM,
        num_queries=query.NUM_QUERIES,
        id2label={0: "object"},
        label2id={"object": 0},
    )


def _backbone_config(cfg: CfgNode) -> dict[str, Any]:
    node = cfg.MODEL.BACKBONE
    stages = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    if node.NAME == "ResNet50":
        # Their default is ResNet-50 with the strides where ours are.
        return {"model_type": "resnet", "downsample_in_bottleneck": False, **stages}
    if node.NAME == "SwinTransformer":
        shape = SWIN_SIZES[node.SIZE]
        return {
            "model_type": "swin",
            "embed_dim": shape.dim,
            "depths": list(shape.depths),
            "num_heads": list(shape.num_heads),
            "window_size": shape.window,
            "drop_path_rate": node.DROP_PATH,
            **stages,
        }
    raise CheckpointError(
        f"transformers' Mask2Former has no backbone {node.NAME}; convert to native"
    )
