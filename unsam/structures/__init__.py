"""The data that every part exchanges: `MaskSet`, `RegionTree`, photos."""

from unsam.structures.mask_set import MaskSet
from unsam.structures.photo import PHOTO_SUFFIXES, read_photo
from unsam.structures.region_tree import RegionTree

__all__ = ["PHOTO_SUFFIXES", "MaskSet", "RegionTree", "read_photo"]
