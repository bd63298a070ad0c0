"""Pixel decoder: maps of a backbone to mask features and to maps that have seen each other."""

from unsam.modeling.pixel_decoder.deformable_attention import DeformableAttention
from unsam.modeling.pixel_decoder.pixel_decoder import DeformablePixelDecoder, PixelFeatures
from unsam.modeling.pixel_decoder.position import sine_position

__all__ = ["DeformableAttention", "DeformablePixelDecoder", "PixelFeatures", "sine_position"]
