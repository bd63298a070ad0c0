from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from divide_and_conquer.divide.cutler.paste import paste_masks
from unsam.structures import MaskSet


def sampled(probability, box, size):
    """Independent reference: torch's grid_sample over the whole photo, in double precision."""
    height, width = size
    x = (torch.arange(width).double() + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
    y = (torch.arange(height).double() + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
    grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1)[None]
    values = torch.from_numpy(probability).double()[None, None]
    return F.grid_sample(values, grid, align_corners=False)[0, 0].numpy()


@pytest.mark.parametrize("seed", range(4))
def test_equals_bilinear_sampling_of_the_whole_photo(seed):
    rng = np.random.default_rng(seed)
    size = (90, 130)
    corner = rng.uniform(0, [100, 60], (20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.3, 70, (20, 2))], axis=1)
    boxes = np.minimum(boxes, [130, 90, 130, 90])
    boxes[0] = [0, 0, 130, 90]
    boxes[1] = [10.2, 5.1, 10.3, 80]
    coarse = rng.uniform(0, 1, (20, 1, 7, 7)).astype(np.float32)
    probabilities = F.interpolate(torch.from_numpy(coarse), size=28, mode="bicubic").clamp(0, 1)
    masks = paste_masks(probabilities[:, 0].numpy(), boxes, np.linspace(1, 0.1, 20), size)
    for index in range(20):
        values = sampled(probabilities[index, 0].numpy(), boxes[index], size)
        differs = masks.mask(index) != (values >= 0.5)
        assert np.abs(values[differs] - 0.5).max(initial=0) < 1e-9
    assert masks.source.tolist() == ["divide"] * 20
    assert np.array_equal(masks.score, np.linspace(1, 0.1, 20).astype(np.float32))


def test_full_probability_fills_the_pixels_whose_centres_the_box_holds():
    size = (40, 60)
    boxes = np.array([[3.4, 2.6, 20.6, 30.4], [0, 0, 60, 40], [7, 7, 8, 8], [5.6, 5.6, 6.4, 6.4]])
    masks = paste_masks(np.full((4, 28, 28), 0.999, np.float32), boxes, np.ones(4), size)
    y, x = np.mgrid[:40, :60] + 0.5
    # Interpolation with the zeros around it eats half a cell at most.
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        margin_x, margin_y = (x1 - x0) / 28, (y1 - y0) / 28
        box = (x > x0) & (x < x1) & (y > y0) & (y < y1)
        core = (x > x0 + margin_x) & (x < x1 - margin_x)
        core &= (y > y0 + margin_y) & (y < y1 - margin_y)
        assert not (masks.mask(index) & ~box).any()
        assert not (core & ~masks.mask(index)).any()
    assert masks.areas.tolist()[2:] == [1, 0]


def test_runs_are_those_of_the_same_dense_masks():
    masks = paste_masks(
        np.ones((1, 28, 28), np.float32), np.array([[0, 0, 12, 9]]), np.ones(1), (9, 12)
    )
    assert masks == MaskSet.from_masks(masks.masks(), source="divide")
    assert len(masks.runs) == 1


def test_no_detections_give_an_empty_set():
    masks = paste_masks(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4)), np.zeros(0), (5, 7))
    assert len(masks) == 0
    assert masks.size == (5, 7)
