"""Overlays change the pixels that they are about, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from unsam.structures import MaskSet
from unsam.visualization import draw_labels, draw_masks, draw_points, hstack, save_png
from unsam.visualization.overlay import colours


def test_masks_tint_their_pixels_only() -> None:
    image = np.full((20, 30, 3), 100, np.uint8)
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 2:15, 2:15] = True
    masks[1, 5:9, 5:9] = True
    drawn = draw_masks(image, MaskSet.from_masks(masks))
    outside = ~masks.any(0)
    outside[1:16, 1:16] = False  # the outline is a pixel wide
    np.testing.assert_array_equal(drawn[outside], image[outside])
    assert (drawn[12, 12] != image[12, 12]).any()
    assert (drawn[7, 7] != drawn[12, 12]).any()


def test_labels_of_minus_one_stay() -> None:
    image = np.full((10, 10, 3), 100, np.uint8)
    labels = np.full((10, 10), -1)
    labels[2:6, 2:6] = 3
    drawn = draw_labels(image, labels)
    assert (drawn[8, 8] == 100).all()
    assert (drawn[4, 4] != 100).any()


def test_colours_are_stable_and_distinct() -> None:
    assert len({tuple(row) for row in colours(40).tolist()}) == 40
    np.testing.assert_array_equal(colours(40)[:7], colours(7))


def test_points_and_stacks(tmp_path: Path) -> None:
    image = np.zeros((30, 40, 3), np.uint8)
    drawn = draw_points(image, np.array([[10.0, 12.0], [30.0, 20.0]]), [1, 0])
    assert drawn[12, 10, 1] > drawn[12, 10, 0]
    assert drawn[20, 30, 0] > drawn[20, 30, 1]
    both = hstack([image, drawn[:20]], gap=3)
    assert both.shape == (30, 83, 3)
    save_png(both, tmp_path / "both.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "both.png")), both)
