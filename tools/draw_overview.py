"""Draw the picture of the README: ``python tools/draw_overview.py WEIGHTS PHOTO... OUTPUT``.

Each row is a photo, its pseudo masks cut at two granularities, and one click at three.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np

from divide_and_conquer.pipeline import PseudoMasker
from unsam.checkpoint.atomic import atomic_writer
from unsam.config import get_cfg
from unsam.inference import Segmenter
from unsam.quickstart import click_for, draw_click
from unsam.structures import RegionTree, read_photo
from unsam.visualization import draw_labels, hstack
from unsam.visualization.overlay import encode_image

PSEUDO_CUTS = (0.2, 0.4)
CLICKS = (0.15, 0.4, 0.8)
HEIGHT = 220


def main() -> None:
    """Read photos and weights, write one JPEG."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("weights", help="model.safetensors of a run")
    parser.add_argument("photos", nargs="+")
    parser.add_argument("output", help="a .jpg file")
    arguments = parser.parse_args()
    segmenter = Segmenter.from_checkpoint(arguments.weights)
    masker = PseudoMasker.from_config(get_cfg())
    rows = [draw_row(read_photo(path), masker, segmenter) for path in arguments.photos]
    width = min(row.shape[1] for row in rows)
    gap = np.full((6, width, 3), 255, np.uint8)
    parts = [part for row in rows for part in (cv2.resize(row, (width, HEIGHT)), gap)]
    picture = np.concatenate(parts[:-1])
    with atomic_writer(arguments.output) as stream:
        stream.write(encode_image(picture, "JPEG"))


def draw_row(image: np.ndarray, masker: PseudoMasker, segmenter: Segmenter) -> np.ndarray:
    """Return one row of the picture, ``uint8 [HEIGHT, ?, 3]``."""
    pseudo = masker(image)
    tree = RegionTree.from_masks(pseudo)
    point = click_for(pseudo, image.shape[:2])
    segmenter.set_image(image)
    answer = segmenter.predict(point[None], [1], granularity=list(CLICKS))
    pictures = [
        image,
        *(draw_labels(image, tree.cut(granularity)) for granularity in PSEUDO_CUTS),
        *(draw_click(image, mask, point) for mask in answer.masks),
    ]
    scale = HEIGHT / image.shape[0]
    size = (round(image.shape[1] * scale), HEIGHT)
    return hstack([cv2.resize(item, size, interpolation=cv2.INTER_AREA) for item in pictures])


if __name__ == "__main__":
    main()
