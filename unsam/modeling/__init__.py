"""Models: image encoders, prompt encoder, mask decoder, criteria, meta-architectures."""

from unsam.modeling.build import (
    IMAGE_ENCODERS,
    META_ARCHITECTURES,
    build_image_encoder,
    build_model,
)
from unsam.modeling.granular_sam import GranularSam
from unsam.modeling.image_encoder import EncodedImages, ImageEncoder
from unsam.modeling.promptable import PromptableModel
from unsam.modeling.prompts import Prompts
from unsam.modeling.segmentation_model import InputFrame, SegmentationModel

__all__ = [
    "IMAGE_ENCODERS",
    "META_ARCHITECTURES",
    "EncodedImages",
    "GranularSam",
    "ImageEncoder",
    "InputFrame",
    "PromptableModel",
    "Prompts",
    "SegmentationModel",
    "build_image_encoder",
    "build_model",
]
