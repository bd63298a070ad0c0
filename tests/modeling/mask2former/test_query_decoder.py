from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.modeling.mask2former.conftest import random_features, tiny_cfg
from tests.modeling.mask2former.transformers_decoder import TransformersDecoder, mask_logits
from unsam.modeling.mask2former import MaskedAttentionDecoder
from unsam.modeling.mask2former import attention as attention_module
from unsam.modeling.mask2former.attention import PredictedMasks


def _decoder(seed: int = 0, film: bool = False) -> MaskedAttentionDecoder:
    cfg = tiny_cfg()
    cfg.MODEL.QUERY_DECODER.GRANULARITY = "film" if film else "none"
    cfg.MODEL.QUERY_DECODER.NUM_LAYERS = 5
    torch.manual_seed(seed)
    return MaskedAttentionDecoder(**MaskedAttentionDecoder.from_config(cfg)).double().eval()


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
def test_every_output_equals_that_of_transformers_in_float64(seed):
    decoder = _decoder(seed)
    features = random_features(seed, batch=2)
    found = decoder(features, every_layer=True)
    classes, masks = TransformersDecoder(decoder)(features)
    assert len(found) == len(classes) == len(masks) == 6
    for output, their_classes, their_masks in zip(found, classes, masks, strict=True):
        torch.testing.assert_close(output.class_logits, their_classes, atol=1e-9, rtol=1e-9)
        ours = mask_logits(output.mask_embeddings, features.mask_features)
        torch.testing.assert_close(ours, their_masks, atol=1e-9, rtol=1e-9)


@torch.no_grad()
def test_the_last_output_does_not_depend_on_whether_the_others_are_returned():
    decoder, features = _decoder(), random_features(0)
    (last,) = decoder(features)
    every = decoder(features, every_layer=True)
    assert torch.equal(last.class_logits, every[-1].class_logits)
    assert torch.equal(last.mask_embeddings, every[-1].mask_embeddings)


@torch.no_grad()
def test_masks_that_are_made_in_parts_are_the_same(monkeypatch):
    decoder, features = _decoder(), random_features(0, batch=2)
    (whole,) = decoder(features)
    monkeypatch.setattr(attention_module, "_PAIRS_AT_ONCE", 2 * 96 * 5)
    (parts,) = decoder(features)
    torch.testing.assert_close(parts.class_logits, whole.class_logits, atol=1e-12, rtol=1e-12)


def test_a_query_looks_inside_its_mask_and_everywhere_if_it_is_empty():
    features = torch.tensor([[[1.0, -1.0, 2.0], [0.0, 0.0, 0.0]]])
    embeddings = torch.tensor([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]])
    masks = PredictedMasks(embeddings, -features.abs())
    assert PredictedMasks(embeddings, features).inside(0, 2).tolist() == [
        [[True, False, True], [False, True, False]]
    ]
    # The first has no positive logit; a logit of zero is a probability of a half, which counts.
    assert masks.inside(0, 3).all()


@torch.no_grad()
def test_a_photo_is_decoded_alike_in_every_batch():
    decoder, both = _decoder(film=True), random_features(0, batch=2)
    one = random_features(0, batch=2)
    one = type(one)(one.mask_features[1:], tuple(level[1:] for level in one.levels))
    granularity = torch.tensor([[0.2, 0.4], [0.5, 0.9]])
    (together,) = decoder(both, granularity)
    (alone,) = decoder(one, granularity[1:])
    torch.testing.assert_close(together.class_logits[1:], alone.class_logits)
    torch.testing.assert_close(together.mask_embeddings[1:], alone.mask_embeddings)


@torch.no_grad()
def test_granularity_starts_as_the_decoder_without_it_bit_for_bit():
    plain, granular, features = _decoder(), _decoder(film=True), random_features(0)
    granular.load_state_dict(plain.state_dict(), strict=False)
    (without,) = plain(features)
    (with_it,) = granular(features, torch.tensor([[0.3]]))
    assert torch.equal(without.class_logits, with_it.class_logits)
    assert torch.equal(without.mask_embeddings, with_it.mask_embeddings)


@torch.no_grad()
def test_several_granularities_at_once_are_those_one_by_one():
    decoder, features = _decoder(film=True), random_features(0)
    nn.init.normal_(decoder.film.modulation.weight, std=0.5)
    (both,) = decoder(features, torch.tensor([[0.2, 0.8]]))
    single = [decoder(features, torch.tensor([[value]]))[0] for value in (0.2, 0.8)]
    for name in ("class_logits", "mask_embeddings"):
        joined = torch.cat([getattr(one, name) for one in single], dim=1)
        torch.testing.assert_close(getattr(both, name), joined)
    assert (single[0].class_logits - single[1].class_logits).abs().max() > 1e-3


def test_every_parameter_is_trained():
    decoder, features = _decoder(film=True), random_features(0)
    nn.init.normal_(decoder.film.modulation.weight, std=0.5)
    outputs = decoder(features, torch.tensor([[0.4]]), every_layer=True)
    sum(
        output.class_logits.square().sum() + output.mask_embeddings.square().sum()
        for output in outputs
    ).backward()
    dead = [
        name
        for name, parameter in decoder.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert dead == []


@torch.no_grad()
def test_it_compiles_without_a_break():
    decoder, features = _decoder(film=True), random_features(0)
    granularity = torch.tensor([[0.2, 0.8]])
    compiled = torch.compile(decoder, fullgraph=True, backend="eager")
    (expected,) = decoder(features, granularity)
    (found,) = compiled(features, granularity)
    torch.testing.assert_close(found.class_logits, expected.class_logits)


@torch.no_grad()
def test_bfloat16_autocast_first_predictions_are_near():
    """Later ones are not comparable: a hard mask turns a rounding into another query."""
    decoder, features = _decoder().float(), random_features(0)
    features = type(features)(
        features.mask_features.float(), tuple(level.float() for level in features.levels)
    )
    exact = decoder(features, every_layer=True)
    with torch.autocast("cpu", torch.bfloat16):
        near = decoder(features, every_layer=True)
    assert all(torch.isfinite(output.class_logits).all() for output in near)
    torch.testing.assert_close(
        near[0].class_logits.float(), exact[0].class_logits, atol=0.03, rtol=0.03
    )


@pytest.mark.parametrize("film", [False, True])
def test_granularity_and_film_come_together(film):
    granularity = None if film else torch.tensor([[0.5]])
    with pytest.raises(ValueError, match="needs a granularity" if film else "takes no granularity"):
        _decoder(film=film)(random_features(0), granularity)


def test_an_unknown_granularity_is_named():
    cfg = tiny_cfg()
    cfg.MODEL.QUERY_DECODER.GRANULARITY = "token"
    with pytest.raises(ValueError, match="GRANULARITY is 'none' or 'film', got 'token'"):
        MaskedAttentionDecoder.from_config(cfg)


def test_heads_that_do_not_divide_the_channels_are_named():
    with pytest.raises(ValueError, match="5 heads do not divide 32 channels"):
        MaskedAttentionDecoder(num_queries=3, dim=32, num_heads=5)
