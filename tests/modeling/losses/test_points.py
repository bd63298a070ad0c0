from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from unsam.modeling.losses import sample_points, uncertain_points


def make_points(N: int, K: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    # Some beyond the borders, where there is nothing.
    return torch.rand(N, K, 2, generator=generator, dtype=torch.float64) * 1.2 - 0.1


def test_points_at_pixel_centres_read_the_pixels() -> None:
    maps = torch.arange(12.0).reshape(1, 1, 3, 4)
    y, x = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    centres = torch.stack(((x + 0.5) / 4, (y + 0.5) / 3), dim=-1).reshape(1, -1, 2)
    torch.testing.assert_close(sample_points(maps, centres), maps.flatten(2))


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_bool_maps_are_read_as_their_float_copies(channels: int) -> None:
    maps = torch.rand(2, channels, 7, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    points = make_points(2, 50)
    sampled = sample_points(maps, points)
    assert sampled.shape == (2, channels, 50)
    if channels:
        torch.testing.assert_close(sampled, sample_points(maps.double(), points))


def test_a_linear_function_is_read_exactly_between_pixels() -> None:
    x = torch.linspace(0.5, 9.5, 10, dtype=torch.float64).expand(1, 1, 6, 10)
    points = 0.1 + 0.8 * torch.rand(1, 20, 2, dtype=torch.float64)
    torch.testing.assert_close(sample_points(x, points), points[None, ..., 0] * 10)


def test_gradient() -> None:
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(sample_points, (maps, make_points(2, 6)))


def test_most_uncertain_points_lie_near_the_border_of_the_mask() -> None:
    torch.manual_seed(0)
    columns = torch.linspace(-8, 8, 64).expand(2, 64, 64)
    points = uncertain_points(columns, num_points=200, oversample=4.0, importance=0.75)
    assert points.shape == (2, 200, 2)
    assert ((points >= 0) & (points <= 1)).all()
    near = (points[..., 0] - 0.5).abs()
    # 150 of 800 random points, the nearest to the middle, lie in about 0.19 of the width; a little
    # more near the edges of the map, beyond which everything is zero.
    assert near[:, :150].mean() < 0.07
    assert near[:, :150].max() < 0.2
    assert near[:, 150:].max() > 0.35


def test_no_masks_give_no_points() -> None:
    assert uncertain_points(torch.zeros(0, 8, 8), 10, 3.0, 0.75).shape == (0, 10, 2)
