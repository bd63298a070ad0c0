from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.modeling.mask2former.published_inference import grown_logits
from unsam.modeling import InputFrame
from unsam.modeling.mask2former.upsampling import MaskGrower

FRAMES = [
    InputFrame((50, 75), (64, 96), (64, 96)),
    InputFrame((201, 134), (96, 64), (96, 64)),
    InputFrame((37, 90), (40, 97), (64, 128)),
    InputFrame((300, 200), (61, 41), (64, 64)),
    InputFrame((1, 1), (64, 64), (64, 64)),
    InputFrame((2, 400), (32, 250), (32, 256)),
]


def _logits(frame: InputFrame, N: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (N, frame.padded_size[0] // 4, frame.padded_size[1] // 4)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    # Noise, a blob, something that only touches the far corner, and nothing.
    logits[1] -= 4
    logits[1, :3, 2:5] += 8
    logits[2] = -1
    logits[2, -1, -1] = 1
    logits[3] = -logits[3].abs()
    return logits


@pytest.mark.parametrize("frame", FRAMES)
def test_masks_and_means_are_those_of_two_interpolations(frame):
    logits = _logits(frame)
    grown = MaskGrower(frame).grow(logits.transpose(1, 2))
    dense = grown_logits(logits, frame)
    inside = dense > 0
    np.testing.assert_array_equal(grown.masks.masks(), inside.numpy())
    total = (dense.sigmoid() * inside).flatten(1).sum(1)
    mean = total / (inside.flatten(1).sum(1).double() + 1e-6)
    np.testing.assert_allclose(grown.sureness, mean.numpy(), rtol=1e-12)


@pytest.mark.parametrize("frame", FRAMES)
def test_float32_differs_at_most_where_the_logit_is_next_to_nothing(frame):
    logits = _logits(frame)
    grown = MaskGrower(frame).grow(logits.float().transpose(1, 2))
    dense = grown_logits(logits, frame)
    differs = grown.masks.masks() != (dense > 0).numpy()
    assert np.abs(dense.numpy()[differs]).max(initial=0) < 1e-5


def test_runs_across_columns_are_joined_as_mask_sets_have_them():
    frame = InputFrame((40, 50), (64, 64), (64, 64))
    logits = torch.ones(2, 16, 16)
    logits[1, 0] = -1
    masks = MaskGrower(frame).grow(logits.transpose(1, 2)).masks
    assert masks == type(masks).from_masks(masks.masks())
    assert masks.runs_of(0).tolist() == [[0, 2000]]
