"""Photos lie at the top left of the input; what pads them is zero after normalisation."""

from __future__ import annotations

import pytest
import torch

from unsam.modeling.segmentation_model import InputFrame, padded_pixels

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
