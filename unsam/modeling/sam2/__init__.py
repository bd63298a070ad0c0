"""SAM 2 and 2.1, with or without granularity, on the weights of `transformers`."""

from unsam.modeling.sam2.architectures import SIZES, HieraSize, video_config
from unsam.modeling.sam2.image_encoder import Sam2Features
from unsam.modeling.sam2.mask_decoder import Answers
from unsam.modeling.sam2.sam2 import Sam2

__all__ = ["SIZES", "Answers", "HieraSize", "Sam2", "Sam2Features", "video_config"]
