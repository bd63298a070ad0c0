"""The registries of models and their parts, and the builder of a model from a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fvcore.common.config import CfgNode
from torch import nn

from unsam.config.registry import Registry

if TYPE_CHECKING:
    from unsam.modeling.image_encoder import ImageEncoder

META_ARCHITECTURES = Registry("META_ARCHITECTURES")
"""Whole models: photos and prompts in, losses or masks out."""

IMAGE_ENCODERS = Registry("IMAGE_ENCODERS")
"""Photo ``[B, 3, H, W]`` to one embedding and its high-resolution features."""


def build_model(cfg: CfgNode) -> nn.Module:
    """Return the model that ``MODEL.META_ARCHITECTURE`` names, in training mode, on the CPU."""
    architecture = META_ARCHITECTURES.get(cfg.MODEL.META_ARCHITECTURE)
    return architecture(**architecture.from_config(cfg))


def build_image_encoder(cfg: CfgNode) -> ImageEncoder:
    """Return the image encoder that ``MODEL.IMAGE_ENCODER.NAME`` names."""
    encoder = IMAGE_ENCODERS.get(cfg.MODEL.IMAGE_ENCODER.NAME)
    return encoder(**encoder.from_config(cfg))
