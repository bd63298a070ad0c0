"""Readers of annotation files; each gives a list of `ImageRecord`."""

from unsam.data.datasets.bsds500 import load_bsds500
from unsam.data.datasets.coco import load_coco_json
from unsam.data.datasets.pseudo_masks import MANIFEST, load_pseudo_masks
from unsam.data.datasets.record import ImageRecord, require_photos

__all__ = [
    "MANIFEST",
    "ImageRecord",
    "load_bsds500",
    "load_coco_json",
    "load_pseudo_masks",
    "require_photos",
]
