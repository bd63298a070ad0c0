from __future__ import annotations

import pytest
import torch

from divide_and_conquer.divide.cutler.backbone import STRIDES
from divide_and_conquer.divide.cutler.boxes import (
    MAX_LOG_SCALE,
    apply_deltas,
    clip,
    has_area,
    pool,
    pyramid_level,
)

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(count, side, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * side / 2
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * side / 2], 1)


def test_no_deltas_change_nothing():
    boxes = random_boxes(50, 400)
    moved = apply_deltas(torch.zeros(50, 4), boxes, WEIGHTS)
    torch.testing.assert_close(moved, boxes)


def test_deltas_shift_by_widths_and_grow_by_exponentials():
    box = torch.tensor([[10.0, 20.0, 30.0, 60.0]])
    deltas = torch.tensor([[5.0, -2.5, 5 * torch.tensor(2.0).log(), 0.0]])
    moved = apply_deltas(deltas, box, WEIGHTS)
    torch.testing.assert_close(moved, torch.tensor([[10.0, 10.0, 50.0, 50.0]]))


def test_growth_is_limited():
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    grown = apply_deltas(torch.tensor([[0.0, 0.0, 1e4, 1e4]]), box, WEIGHTS)
    side = 16 * torch.tensor(MAX_LOG_SCALE).exp()
    torch.testing.assert_close(grown[0, 2:] - grown[0, :2], side.expand(2))


def test_clipped_boxes_lie_in_the_image():
    boxes = torch.tensor([[-5.0, -1.0, 300.0, 20.0], [250.0, 90.0, 260.0, 120.0]])
    inside = clip(boxes, (100, 200))
    assert inside.tolist() == [[0, 0, 200, 20], [200, 90, 200, 100]]
    assert has_area(inside).tolist() == [True, False]
    assert not has_area(torch.tensor([[0.0, 0.0, float("inf"), 1.0]])).any()


@pytest.mark.parametrize(
    ("side", "level"),
    [(1, 0), (111, 0), (112, 1), (223, 1), (224, 2), (447, 2), (448, 3), (2e3, 3)],
)
def test_larger_boxes_belong_to_coarser_levels(side, level):
    assert pyramid_level(torch.tensor([[3.0, 3.0, 3.0 + side, 3.0 + side]])).item() == level


def test_pooling_a_linear_map_gives_the_position_of_the_cells():
    # Each level holds the x coordinate of its cells' centres, so cells must read their own centre.
    side, resolution = 1024, 7
    levels = [
        ((torch.arange(side // stride) + 0.5) * stride)
        .expand(1, 1, side // stride, -1)
        .contiguous()
        for stride in STRIDES[:4]
    ]
    # Away from the border, where there are no neighbours to read between.
    boxes = random_boxes(40, 700) + 64
    pooled = pool(levels, [boxes], resolution)
    steps = (torch.arange(resolution) + 0.5) / resolution
    expected = boxes[:, :1] + (boxes[:, 2:3] - boxes[:, :1]) * steps
    torch.testing.assert_close(
        pooled[:, 0], expected[:, None].expand(-1, resolution, -1), atol=0.02, rtol=1e-4
    )


def test_each_photo_is_pooled_from_its_own_features():
    levels = [torch.stack([torch.full((2, 64, 64), v) for v in (1.0, 5.0)]) for _ in range(4)]
    first, second = random_boxes(3, 100), random_boxes(2, 100, seed=1)
    pooled = pool(levels, [first, second], 7)
    assert pooled.shape == (5, 2, 7, 7)
    assert torch.equal(pooled[:, 0, 3, 3], torch.tensor([1.0, 1.0, 1.0, 5.0, 5.0]))
    assert pool(levels, [first[:0], second[:0]], 7).shape == (0, 2, 7, 7)
