"""The encoder keeps its promise of shapes, and padding does not reach into the photo."""

from __future__ import annotations

import pytest
import torch

from tests.modeling.conftest import tiny_cfg
from unsam.modeling import build_image_encoder


@pytest.fixture
def encoder() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_image_encoder(tiny_cfg()).eval()


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_shapes_are_as_declared(encoder: torch.nn.Module, size: tuple[int, int]) -> None:
    stride, (fine, middle) = encoder.stride, encoder.high_res_dims
    features = encoder(torch.randn(2, 3, *size))
    h, w = size[0] // stride, size[1] // stride
    assert features.embedding.shape == (2, encoder.embed_dim, h, w)
    assert features.high_res[0].shape == (2, fine, 4 * h, 4 * w)
    assert features.high_res[1].shape == (2, middle, 2 * h, 2 * w)


def test_attention_does_not_look_at_padding(encoder: torch.nn.Module) -> None:
    stride = encoder.stride
    pixels = torch.zeros(1, 3, 2 * stride, 16 * stride)
    pixels[..., : 2 * stride] = torch.randn(1, 3, 2 * stride, 2 * stride)
    valid = torch.zeros(1, 2, 16, dtype=torch.bool)
    valid[..., :2] = True
    other = pixels.clone()
    # Far from the photo, where no convolution carries it there.
    other[..., -stride // 2 :] = 50.0
    first, second = encoder(pixels, valid).embedding, encoder(other, valid).embedding
    torch.testing.assert_close(first[..., 0], second[..., 0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(encoder(pixels).embedding[..., 0], encoder(other).embedding[..., 0])


def test_every_parameter_learns(encoder: torch.nn.Module) -> None:
    features = encoder.train()(torch.randn(2, 3, 64, 64))
    total = sum(map_.square().mean() for map_ in (features.embedding, *features.high_res))
    total.backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
