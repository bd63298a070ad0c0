"""The registries of models and their parts, and the builder of a model from a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fvcore.common.config import CfgNode

from unsam.config.registry import Registry
from unsam.errors import ConfigError, UnsamError

if TYPE_CHECKING:
    from unsam.modeling.backbone import Backbone
    from unsam.modeling.image_encoder import ImageEncoder
    from unsam.modeling.segmentation_model import SegmentationModel

META_ARCHITECTURES = Registry(
    "META_ARCHITECTURES",
    {
        "Sam": "unsam.modeling.sam",
        "Sam2": "unsam.modeling.sam2",
        "Mask2Former": "unsam.modeling.mask2former",
        "SemanticSam": "unsam.modeling.semantic_sam",
    },
)
"""Whole models: photos and prompts in, losses or masks out."""

IMAGE_ENCODERS = Registry("IMAGE_ENCODERS")
"""Photo ``[B, 3, H, W]`` to one embedding and its high-resolution features."""

BACKBONES = Registry(
    "BACKBONES",
    dict.fromkeys(("ResNet50", "SwinTransformer", "SamVit"), "unsam.modeling.backbone"),
)
"""Photo ``[B, 3, H, W]`` to feature maps at strides 4, 8, 16 and 32."""


def build_model(cfg: CfgNode) -> SegmentationModel:
    """Return the model that ``MODEL.META_ARCHITECTURE`` names, in training mode, on the CPU.

    Raises:
        ConfigError: there is no such architecture, or it cannot have these settings.
    """
    architecture = META_ARCHITECTURES.get(cfg.MODEL.META_ARCHITECTURE)
    try:
        return architecture(**architecture.from_config(cfg))
    except UnsamError:
        raise
    # All arguments of a constructor come from the config.
    except ValueError as error:
        raise ConfigError(f"{cfg.MODEL.META_ARCHITECTURE}: {error}") from error


def build_image_encoder(cfg: CfgNode) -> ImageEncoder:
    """Return the image encoder that ``MODEL.IMAGE_ENCODER.NAME`` names."""
    encoder = IMAGE_ENCODERS.get(cfg.MODEL.IMAGE_ENCODER.NAME)
    return encoder(**encoder.from_config(cfg))


def build_backbone(cfg: CfgNode) -> Backbone:
    """Return the backbone that ``MODEL.BACKBONE.NAME`` names, without its weights."""
    backbone = BACKBONES.get(cfg.MODEL.BACKBONE.NAME)
    return backbone(**backbone.from_config(cfg))
