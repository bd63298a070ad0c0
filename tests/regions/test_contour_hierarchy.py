"""Contours of a photo to regions of all scales."""

from __future__ import annotations

import numpy as np
import pytest

from unsam.config import get_cfg
from unsam.regions.contour_hierarchy import ContourHierarchy, basins_of
from unsam.structures import MaskSet


def squares() -> tuple[np.ndarray, np.ndarray]:
    """A square in a square; the outer contour is sure, the inner one half as much."""
    contours = np.zeros((64, 64), np.float32)
    contours[8:56, (8, 55)] = contours[(8, 55), 8:56] = 1.0
    contours[20:44, (20, 43)] = contours[(20, 43), 20:44] = 0.5
    return contours, np.full((64, 64, 3), 128, np.uint8)


def best_iou(masks: MaskSet, truth: np.ndarray) -> float:
    return float(masks.iou(MaskSet.from_masks(truth[None])).max())


def test_enclosed_regions_are_found_and_nest() -> None:
    masks = ContourHierarchy()(*squares())
    outer, inner = np.zeros((2, 64, 64), bool)
    outer[8:56, 8:56] = inner[20:44, 20:44] = True
    assert best_iou(masks, outer) > 0.9
    assert best_iou(masks, inner) > 0.85
    assert masks.size == (64, 64)
    assert np.all(np.diff(masks.areas) <= 0)


def test_deep_basins_alone_outlive_filling() -> None:
    contours, _ = squares()
    # Of two basins equally low neither is less deep than the other.
    contours[21:43, 21:43] = 0.05
    assert basins_of(contours, 0.0, 0.1).max() + 1 == 3
    assert basins_of(contours, 0.0, 0.7).max() + 1 == 2
    assert basins_of(np.zeros((5, 7), np.float32), 0.0, 0.1).tolist() == [[0] * 7] * 5


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (40, 33)])
def test_any_size_works(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    masks = ContourHierarchy(max_masks=7)(rng.random(size, np.float32), photo)
    assert 1 <= len(masks) <= 7


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="BASINS are pairs"):
        ContourHierarchy(basins=((1.0,),))
    cfg = get_cfg()
    cfg.INFERENCE.MAX_MASKS = 5
    assert ContourHierarchy(**ContourHierarchy.from_config(cfg)).max_masks == 5
