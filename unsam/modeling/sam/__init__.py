"""Segment Anything (arXiv 2304.02643), plain and with UnSAMv2's granularity."""

from unsam.modeling.sam.image_encoder import SamImageEncoder
from unsam.modeling.sam.mask_decoder import SamMaskDecoder
from unsam.modeling.sam.prompt_encoder import SamPromptEncoder
from unsam.modeling.sam.sam import Sam, SamFeatures

__all__ = ["Sam", "SamFeatures", "SamImageEncoder", "SamMaskDecoder", "SamPromptEncoder"]
