"""The published sizes and versions of SAM 2, as configurations of `transformers`."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

EMBED_STRIDE = 16
"""Input pixels per cell of the image embedding."""


@dataclass(frozen=True)
class HieraSize:
    """The image encoder of one size (SAM 2, arXiv 2408.00714, §D.1; its published configs).

    Attributes:
        width: channels of the first of four stages; each following stage has twice as many.
        heads: attention heads of the first stage; each following stage has twice as many.
        blocks: blocks per stage.
        global_blocks: the blocks, counted over all stages, that attend to the whole map.
        windows: side of the attention windows per stage, in cells.
        background: side of the learned position map that is stretched over the photo.
    """

    width: int
    heads: int
    blocks: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: int = 7


SIZES = {
    "tiny": HieraSize(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "small": HieraSize(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "base_plus": HieraSize(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
    "large": HieraSize(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
}
VERSIONS = ("2", "2.1")


def video_config(size: HieraSize, version: str, image_size: int) -> Sam2VideoConfig:
    """Return the configuration of the whole model, memory for video included.

    Args:
        size: of the image encoder, one of `SIZES`.
        version: "2" or "2.1"; 2.1 has two more parts for video.
        image_size: side of the square input in pixels, a multiple of 32; the published weights
            are for 1024.

    Raises:
        ValueError: another version or image size.
    """
    if version not in VERSIONS:
        raise ValueError(f"version of SAM 2 is one of {', '.join(VERSIONS)}, got '{version}'")
    if image_size < 32 or image_size % 32:
        raise ValueError(f"SAM 2 takes inputs whose side is a multiple of 32, got {image_size}")
    widths = [size.width * 2**stage for stage in range(4)]
    backbone = Sam2HieraDetConfig(
        image_size=[image_size, image_size],
        hidden_size=size.width,
        num_attention_heads=size.heads,
        blocks_per_stage=list(size.blocks),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[size.heads * 2**stage for stage in range(4)],
        window_size_per_stage=list(size.windows),
        global_attention_blocks=list(size.global_blocks),
        window_positional_embedding_background_size=[size.background, size.background],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[image_size // stride] * 2 for stride in (4, 8, EMBED_STRIDE)],
    )
    cells = image_size // EMBED_STRIDE
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={"image_size": image_size, "patch_size": EMBED_STRIDE},
        image_size=image_size,
        memory_attention_rope_feat_sizes=[cells, cells],
        enable_occlusion_spatial_embedding=version == "2.1",
        enable_temporal_pos_encoding_for_object_pointers=version == "2.1",
    )
