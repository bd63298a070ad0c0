"""The sheet of one photo can be read whatever the photo's size, with and without masks."""

from __future__ import annotations

import numpy as np
import pytest

from tests.visualization.test_levels import quarters
from unsam.structures import MaskSet
from unsam.visualization import draw_hierarchy
from unsam.visualization.photo_sheet import describe


@pytest.mark.parametrize("shape", [(8, 8), (40, 1500), (1500, 40), (300, 200)])
def test_sheets_of_any_photo_have_room_for_captions(shape: tuple[int, int]) -> None:
    photo = np.full((*shape, 3), 60, np.uint8)
    dense = np.zeros((2, *shape), bool)
    dense[0, 1:, 1:] = True
    dense[1, 2 : shape[0] // 2, 2 : shape[1] // 2] = True
    masks = MaskSet.from_masks(dense, parent=[-1, 0], granularity=[1.0, 0.1])
    sheet = draw_hierarchy(photo, masks)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] >= 300
    assert max(sheet.shape) < 5000
    # Text is there: dark pixels in the line above the panels.
    assert (sheet[24:68] < 100).any()


def test_panels_are_the_photo_and_the_levels() -> None:
    masks = quarters()
    photo = np.full((32, 32, 3), (200, 40, 90), np.uint8)
    sheet = draw_hierarchy(photo, masks, panel_side=320)
    first = sheet[24 + 44 + 10 : 24 + 44 + 300, 30:330]
    assert (first == (200, 40, 90)).all()


def test_no_masks_is_said_and_no_crash() -> None:
    photo = np.zeros((20, 30, 3), np.uint8)
    empty = MaskSet.empty((20, 30))
    assert "No masks" in describe(empty)
    assert draw_hierarchy(photo, empty).shape[0] > 100


def test_counts_are_those_of_the_set() -> None:
    assert describe(quarters()) == "9 masks, 1 root, 3 levels (9 conquer)"


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="masks of"):
        draw_hierarchy(np.zeros((20, 30, 3), np.uint8), MaskSet.empty((30, 20)))
