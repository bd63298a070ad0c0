"""Similarity maps: 1 under a click, against a direct computation, blind to padding and boxes."""

from __future__ import annotations

import pytest
import torch

from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, NEGATIVE, PADDING, POSITIVE, Prompts
from unsam.modeling.similarity_maps import SimilarityMaps

STRIDE = 4


@pytest.fixture
def maps() -> SimilarityMaps:
    torch.manual_seed(0)
    return SimilarityMaps(in_dim=6, num_heads=3, head_dim=5)


def prompts(points: list, labels: list, images: list) -> Prompts:
    count = len(labels)
    return Prompts(
        torch.tensor(points, dtype=torch.float32),
        torch.tensor(labels),
        torch.full((count,), 0.5),
        torch.tensor(images),
    )


def test_maps_equal_the_formula(maps: SimilarityMaps) -> None:
    features = torch.randn(2, 6, 4, 7)
    asked = prompts(
        [[[1.0, 1.0], [9.0, 6.0], [26.0, 14.0]], [[13.0, 2.0], [5.0, 5.0], [0.0, 0.0]]],
        [[POSITIVE, POSITIVE, NEGATIVE], [POSITIVE, NEGATIVE, PADDING]],
        [1, 0],
    )
    found = maps(asked, features, STRIDE)
    assert found.shape == (2, 4, 7, 6)
    embedded = maps.embed(features).reshape(2, 3, 5, 4, 7)
    for p, (image, labels) in enumerate(zip([1, 0], asked.labels, strict=True)):
        for side, label in enumerate((NEGATIVE, POSITIVE)):
            expected = torch.zeros(3, 4, 7)
            for (x, y), own in zip(asked.points[p], labels, strict=True):
                if own == label:
                    e = embedded[image]
                    c = e[:, :, int(y) // STRIDE, int(x) // STRIDE]
                    near = (-(e - c[..., None, None]).square().mean(1)).exp()
                    expected = expected.maximum(near)
            got = found[p, :, :, 3 * side : 3 * side + 3].permute(2, 0, 1)
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[0, 0, 0, 3:], torch.ones(3))


def test_boxes_and_padding_have_no_similarity(maps: SimilarityMaps) -> None:
    asked = prompts([[[1.0, 1.0], [9.0, 9.0]]], [[BOX_FIRST, BOX_LAST]], [0])
    assert not maps(asked, torch.randn(1, 6, 4, 7), STRIDE).any()


def test_image_features_get_a_gradient(maps: SimilarityMaps) -> None:
    features = torch.randn(2, 6, 4, 7, requires_grad=True)
    asked = prompts([[[5.0, 5.0]]], [[POSITIVE]], [1])
    maps(asked, features, STRIDE).sum().backward()
    assert features.grad is not None
    assert not features.grad[0].any()
    assert features.grad[1].any()
