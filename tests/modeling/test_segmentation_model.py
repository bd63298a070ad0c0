"""Photos lie at the top left of the input; what pads them is zero after normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unsam.modeling.segmentation_model import (
    InputFrame,
    SegmentationModel,
    common_size,
    padded_pixels,
)

MEAN, STD = torch.tensor([10.0, 20.0, 30.0])[:, None, None], torch.full((3, 1, 1), 2.0)


def test_padding_is_zero_and_pixels_are_normalised() -> None:
    images = [torch.full((3, 2, 5), 40, dtype=torch.uint8), torch.zeros(3, 4, 3)]
    pixels = padded_pixels(images, (4, 6), MEAN, STD)
    assert pixels.shape == (2, 3, 4, 6)
    assert pixels[0, :, 0, 0].tolist() == [15, 10, 5]
    assert pixels[0, :, 2:].abs().sum() == pixels[1, :, :, 3:].abs().sum() == 0
    assert padded_pixels(images, (4, 6), MEAN.double(), STD.double()).dtype == torch.float64


@pytest.mark.parametrize("shape", [(3, 5, 5), (3, 4, 7), (2, 3, 4, 4)])
def test_an_image_of_the_wrong_size_is_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"at most 4x6 .* resize it with prepare"):
        padded_pixels([torch.zeros(shape)], (4, 6), MEAN, STD)


def test_a_frame_transposed_twice_is_itself() -> None:
    frame = InputFrame((1, 2), (3, 4), (5, 6))
    assert frame.transposed == InputFrame((2, 1), (4, 3), (6, 5))
    assert frame.transposed.transposed == frame


SIDES = st.integers(1, 3000)


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=5), st.integers(1, 64))
def test_the_common_size_is_the_least_multiple_that_holds_all(
    sizes: list[tuple[int, int]], divisor: int
) -> None:
    for side, sides in zip(common_size(sizes, divisor), zip(*sizes, strict=True), strict=True):
        assert side % divisor == 0
        assert 0 <= side - max(sides) < divisor


class Halving(SegmentationModel):
    def __init__(self) -> None:
        super().__init__(pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1))
        self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def resized_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        return photo_size[0] // 2, photo_size[1] // 2


def test_prepared_photos_have_the_resized_size_and_keep_colours_in_place() -> None:
    photo = np.zeros((8, 12, 3), np.uint8)
    photo[:, 6:] = (10, 20, 30)
    prepared = Halving().prepare(photo)
    assert prepared.dtype == torch.uint8
    assert prepared.shape == (3, 4, 6)
    assert prepared[:, 0, 0].tolist() == [0, 0, 0]
    assert prepared[:, 3, 5].tolist() == [10, 20, 30]


def test_zero_loss_reaches_every_parameter_that_learns_and_moves_none() -> None:
    model = Halving()
    (model.used(torch.ones(1, 2)).sum() + model.zero_loss()).backward()
    assert model.zero_loss().item() == 0
    assert not model.unused.weight.grad.any()
    assert model.used.weight.grad.all()
    assert model.frozen.weight.grad is None
