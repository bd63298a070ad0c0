from __future__ import annotations

import pytest
import torch

from unsam.modeling.pixel_decoder import sine_position


@pytest.mark.parametrize("size", [(3, 5), (1, 7), (128, 192)])
def test_it_equals_transformers(size: tuple[int, int]) -> None:
    from transformers.models.mask2former import modeling_mask2former as library

    embedding = library.Mask2FormerSinePositionEmbedding(32, normalize=True)
    theirs = embedding(torch.Size((1, 64, *size)), torch.device("cpu"), torch.float32)
    ours = sine_position(*size, 64, device=torch.device("cpu"), dtype=torch.float32)
    torch.testing.assert_close(ours, theirs[0].flatten(1).T, rtol=0, atol=2e-6)


def test_rows_come_first_then_columns() -> None:
    position = sine_position(4, 6, 8, device=torch.device("cpu"), dtype=torch.float64)
    grid = position.view(4, 6, 8)
    assert (grid[:, :1, :4] == grid[..., :4]).all()
    assert (grid[:1, :, 4:] == grid[..., 4:]).all()
    assert position.dtype == torch.float64
    assert len(position.unique(dim=0)) == 24
