"""The strip: widths in proportion to areas, parts below their wholes and within them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from tests.visualization.test_levels import quarters
from unsam.structures import MaskSet
from unsam.visualization.hierarchy_strip import draw_strip, layout_strip, strip_svg
from unsam.visualization.levels import tree_colours


def overlapping() -> MaskSet:
    """Two roots that overlap, and two parts that together are larger than their whole."""
    dense = np.zeros((4, 20, 30), bool)
    dense[0, :, :25] = True
    dense[1, :, 5:] = True
    dense[2, :18, 2:22] = True
    dense[3, 2:, 4:24] = True
    return MaskSet.from_masks(dense, parent=[-1, -1, 0, 0])


@pytest.mark.parametrize("masks", [quarters(), overlapping()], ids=["partition", "overlapping"])
def test_siblings_are_as_wide_as_their_areas_say(masks: MaskSet) -> None:
    layout = layout_strip(masks)
    for parent in np.unique(masks.parent):
        family = np.flatnonzero(masks.parent == parent)
        ratio = layout.width[family] / masks.areas[family]
        np.testing.assert_allclose(ratio, ratio[0])
        low, high = (layout.left[parent], layout.width[parent]) if parent >= 0 else (0.0, 1.0)
        assert layout.left[family].min() >= low - 1e-12
        assert (layout.left + layout.width)[family].max() <= low + high + 1e-12
        order = family[np.argsort(layout.left[family])]
        ends = (layout.left + layout.width)[order]
        assert (layout.left[order][1:] >= ends[:-1] - 1e-12).all()
        if parent >= 0:
            assert (layout.row[family] == layout.row[parent] + 1).all()


def test_a_partition_has_the_widths_of_the_photo() -> None:
    masks = quarters()
    np.testing.assert_allclose(layout_strip(masks).width, masks.areas / 32**2)


def test_svg_has_one_bar_per_mask_where_the_layout_says() -> None:
    masks = quarters()
    svg = ElementTree.fromstring(strip_svg(masks, tree_colours(masks), 'a "<b>"'))
    bars = [child for child in svg if child.tag.endswith("rect")]
    assert len(bars) == len(masks)
    layout = layout_strip(masks)
    wanted = sorted((round(1000 * left, 2)) for left in layout.left)
    assert sorted(float(bar.get("x", "nan")) for bar in bars) == wanted
    assert svg.get("aria-label") == 'a "<b>"'


def test_picture_shows_every_mask_and_no_masks_are_no_bars() -> None:
    masks = quarters()
    colours = tree_colours(masks)
    picture = draw_strip(masks, colours, 400)
    seen = {tuple(pixel) for pixel in picture.reshape(-1, 3)}
    assert {tuple(colour) for colour in colours} <= seen
    empty = MaskSet.empty((4, 5))
    assert layout_strip(empty).num_rows == 0
    assert (draw_strip(empty, tree_colours(empty), 50) == 255).all()
    assert not re.findall("<rect", strip_svg(empty, tree_colours(empty), "none"))


def test_finest_masks_of_deep_trees_stay_visible(tmp_path: Path) -> None:
    size = 60
    dense = np.zeros((size, size, size), bool)
    for index in range(size):
        dense[index, index:, index:] = True
    masks = MaskSet.from_masks(dense, parent=np.arange(size) - 1)
    colours = np.zeros((size, 3), np.uint8)
    rows = draw_strip(masks, colours, 100)
    step = rows.shape[0] // size
    assert ((rows[::step] == 0).any(axis=(1, 2))).all()
