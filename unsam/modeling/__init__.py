"""Models: image encoders, prompt encoder, mask decoder, criteria, meta-architectures."""

from unsam.modeling.build import (
    IMAGE_ENCODERS,
    META_ARCHITECTURES,
    build_image_encoder,
    build_model,
)
from unsam.modeling.granular_sam import GranularSam
from unsam.modeling.image_encoder import EncodedImages, ImageEncoder
from unsam.modeling.prompts import Prompts

__all__ = [
    "IMAGE_ENCODERS",
    "META_ARCHITECTURES",
    "EncodedImages",
    "GranularSam",
    "ImageEncoder",
    "Prompts",
    "build_image_encoder",
    "build_model",
]
