from __future__ import annotations

import dataclasses

import torch

from unsam.modeling import EncodedImages, Prompts
from unsam.modeling.prompt_encoder import ClickMaps, PositionEncoding, PromptEncoder
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, NEGATIVE, PADDING, POSITIVE


def _images(B: int = 2) -> EncodedImages:
    torch.manual_seed(1)
    return EncodedImages(
        torch.randn(B, 32, 3, 4), (torch.randn(B, 8, 12, 16), torch.randn(B, 8, 6, 8))
    )


def _prompts(labels: list[list[int]]) -> Prompts:
    P, K = len(labels), len(labels[0])
    torch.manual_seed(2)
    return Prompts(
        torch.rand(P, K, 2) * 40,
        torch.tensor(labels),
        torch.linspace(0.1, 1, P),
        torch.arange(P) % 2,
    )


def test_shapes_and_which_tokens_are_real():
    encoder = PromptEncoder(embed_dim=32, image_size=64, point_feature_dims=(32, 8)).eval()
    prompts = _prompts([[POSITIVE, NEGATIVE], [POSITIVE, PADDING]])
    tokens, real = encoder.sparse(prompts, _images())
    assert tokens.shape == (2, 3, 32)
    assert real.tolist() == [[True, True, True], [True, True, False]]
    assert encoder.dense(prompts, 3, 4).shape == (1, 1, 32)
    with_mask = dataclasses.replace(prompts, mask_logits=torch.randn(2, 12, 16))
    assert encoder.dense(with_mask, 3, 4).shape == (2, 12, 32)


def test_click_maps_peak_at_the_nearest_click_and_fill_the_box():
    maps = ClickMaps(widths=(8.0, 24.0))
    assert maps.num_maps == 5
    prompts = Prompts(
        torch.tensor([[[24.0, 40.0], [56.0, 8.0]], [[16.0, 0.0], [64.0, 32.0]]]),
        torch.tensor([[POSITIVE, NEGATIVE], [BOX_FIRST, BOX_LAST]]),
        torch.ones(2),
        torch.zeros(2).long(),
    )
    clicked, boxed = maps(prompts, 3, 4, stride=16)
    assert (clicked[0, 3, :2] == 1).all()
    assert (clicked[2, 1, 2:4] == 1).all()
    assert (clicked.flatten(0, 1) == 1).sum(0).tolist() == [1, 1, 1, 1, 0]
    assert boxed[..., 4].tolist() == [[0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert boxed[..., :4].abs().max() == 0


def test_point_features_come_from_the_clicked_cell_of_the_own_photo():
    encoder = PromptEncoder(embed_dim=32, image_size=64, point_feature_dims=(32, 8)).eval()
    images = _images()
    prompts = Prompts(
        torch.tensor([[[17.0, 33.0]], [[17.0, 33.0]]]),
        torch.tensor([[POSITIVE], [POSITIVE]]),
        torch.tensor([0.5, 0.5]),
        torch.tensor([0, 1]),
    )
    before, _ = encoder.sparse(prompts, images)
    changed = images.embedding.clone()
    changed[1, :, 2, 1] += 1.0  # the cell under (17, 33), in the second photo
    after, _ = encoder.sparse(prompts, EncodedImages(changed, images.high_res))
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1, 1], after[1, 1])


def test_points_on_the_far_edge_are_inside():
    encoder = PromptEncoder(embed_dim=32, image_size=64, point_feature_dims=(32, 8)).eval()
    prompts = Prompts(
        torch.tensor([[[64.0, 48.0]]]),
        torch.tensor([[POSITIVE]]),
        torch.ones(1),
        torch.zeros(1).long(),
    )
    assert torch.isfinite(encoder.sparse(prompts, _images(1))[0]).all()


def test_positions_do_not_depend_on_the_padded_size():
    position = PositionEncoding(embed_dim=16, image_size=64)
    small, large = position.grid(2, 3, 16).reshape(2, 3, 16), position.grid(4, 4, 16)
    torch.testing.assert_close(small, large.reshape(4, 4, 16)[:2, :3])
    torch.testing.assert_close(small[1, 2], position(torch.tensor([40.0, 24.0])))
