"""Image encoders, one file each; all are registered in `IMAGE_ENCODERS`."""

from unsam.modeling.image_encoder.base import EncodedImages, ImageEncoder
from unsam.modeling.image_encoder.conv_transformer import ConvTransformerEncoder

__all__ = ["ConvTransformerEncoder", "EncodedImages", "ImageEncoder"]
