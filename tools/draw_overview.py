"""Draw the picture of the README: ``python tools/draw_overview.py WEIGHTS PHOTO... OUTPUT``.

Each row is a photo, its pseudo masks cut at two granularities, and one click at three.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np

from divide_and_conquer.pipeline import PseudoMasker
from unsam.checkpoint.atomic import atomic_writer
from unsam.cli import run_reporting_errors
from unsam.config import get_cfg
from unsam.fit.report import draw_click
from unsam.inference import Segmenter
from unsam.structures import RegionTree, read_photo
from unsam.visualization import draw_labels, hstack
from unsam.visualization.overlay import encode_image

PSEUDO_CUTS = (0.2, 0.4)
GRANULARITIES = (0.2, 0.35, 0.6)
CLICK = (0.5, 0.55)
"""Where the click is, as a share of width and height."""
WIDTH, GAP = 1500, 6


def main() -> int:
    """Read photos and weights, write one JPEG."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("weights", help="model.safetensors of a run")
    parser.add_argument("photos", nargs="+")
    parser.add_argument("output", help="a .jpg file")
    arguments = parser.parse_args()
    segmenter = Segmenter.from_pretrained(arguments.weights)
    masker = PseudoMasker.from_config(get_cfg())
    rows = [draw_row(read_photo(path), masker, segmenter) for path in arguments.photos]
    gap = np.full((GAP, WIDTH, 3), 255, np.uint8)
    parts = [part for row in rows for part in (row, gap)]
    picture = np.concatenate(parts[:-1])
    with atomic_writer(arguments.output) as stream:
        stream.write(encode_image(picture, "JPEG"))
    return 0


def draw_row(image: np.ndarray, masker: PseudoMasker, segmenter: Segmenter) -> np.ndarray:
    """Return one row of the picture, ``uint8 [?, WIDTH, 3]``."""
    tree = RegionTree.from_masks(masker(image))
    height, width = image.shape[:2]
    point = np.array([CLICK[0] * width, CLICK[1] * height], np.float32)
    segmenter.set_image(image)
    answer = segmenter.predict(point[None], [1], granularity=list(GRANULARITIES))
    pictures = [
        image,
        *(draw_labels(image, tree.cut(granularity)) for granularity in PSEUDO_CUTS),
        *(draw_click(image, mask, point) for mask in answer.masks),
    ]
    each = (WIDTH - GAP * (len(pictures) - 1)) // len(pictures)
    size = (each, round(height * each / width))
    small = [cv2.resize(item, size, interpolation=cv2.INTER_AREA) for item in pictures]
    row = hstack(small, GAP)
    return np.pad(row, ((0, 0), (0, WIDTH - row.shape[1]), (0, 0)), constant_values=255)


if __name__ == "__main__":
    raise SystemExit(run_reporting_errors(main))
