from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tests.modeling.mask2former.conftest import random_features, tiny_cfg
from tests.modeling.mask2former.published_inference import grown_logits, published_instances
from tests.modeling.mask2former.transformers_decoder import TransformersDecoder
from unsam.errors import ConfigError
from unsam.modeling import InputFrame
from unsam.modeling.mask2former import BestQueries, MaskedAttentionDecoder
from unsam.modeling.mask2former import best_queries as best_queries_module

FRAME = InputFrame((130, 77), (96, 57), (96, 64))


def _decoder(film: bool = False) -> MaskedAttentionDecoder:
    cfg = tiny_cfg()
    cfg.MODEL.QUERY_DECODER.GRANULARITY = "film" if film else "none"
    torch.manual_seed(4)
    decoder = MaskedAttentionDecoder(**MaskedAttentionDecoder.from_config(cfg)).double().eval()
    for layer in decoder.mask_head.layers:
        # As initialised all queries of an untrained decoder give nearly the same mask.
        nn.init.normal_(layer.weight, std=0.5)
    if film:
        nn.init.normal_(decoder.film.modulation.weight, std=0.5)
    return decoder


def _best(**changes: object) -> BestQueries:
    return dataclasses.replace(BestQueries(precision="float32"), **changes)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
def test_instances_are_the_published_ones_in_float64(seed):
    decoder, features = _decoder(), random_features(seed)
    classes, masks = TransformersDecoder(decoder)(features)
    _, scores, dense = published_instances(classes[-1][0], masks[-1][0], FRAME, max_masks=7)
    found = _best(max_masks=7)(decoder, features, FRAME)
    assert found.size == FRAME.photo_size
    np.testing.assert_array_equal(found.masks(), dense.numpy())
    np.testing.assert_allclose(found.score, scores.numpy(), rtol=1e-6)
    assert (found.granularity == 1).all()
    assert (found.source == "model").all()
    assert found == found.with_parents()


@torch.no_grad()
def test_equal_queries_come_in_the_order_of_their_numbers():
    decoder, features = _decoder(), random_features(0)
    for name in ("query_features", "query_positions"):
        getattr(decoder, name).weight.data[:] = getattr(decoder, name).weight.data[0]
    nn.init.zeros_(decoder.class_head.weight)
    candidates = _best(max_masks=5)._best(decoder(features)[-1], None)
    every = decoder(features)[-1].mask_embeddings[0]
    torch.testing.assert_close(candidates.embeddings, every[:5], atol=0, rtol=0)


@torch.no_grad()
def test_masks_made_in_parts_are_the_same(monkeypatch):
    decoder, features = _decoder(), random_features(0)
    whole = _best()(decoder, features, FRAME)
    monkeypatch.setattr(best_queries_module, "_CELLS_AT_ONCE", 24 * 16 * 5)
    assert _best()(decoder, features, FRAME) == whole


@torch.no_grad()
def test_a_threshold_drops_exactly_the_lower_scores():
    decoder, features = _decoder(), random_features(0)
    everything = _best()(decoder, features, FRAME)
    limit = float(np.median(everything.score))
    some = _best(quality_threshold=limit)(decoder, features, FRAME)
    assert 0 < len(some) < len(everything)
    assert some.score.tolist() == everything.score[everything.score >= limit].tolist()


@torch.no_grad()
def test_no_mask_at_all():
    decoder, features = _decoder(), random_features(0)
    nn.init.constant_(decoder.class_head.bias, -50.0)
    decoder.class_head.bias.data[1] = 50.0
    assert len(_best(quality_threshold=0.5)(decoder, features, FRAME)) == 0
    granular = _decoder(film=True)
    granular.class_head.load_state_dict(decoder.class_head.state_dict())
    both = _best(quality_threshold=0.5)(granular, features, FRAME, [0.2, 0.9])
    assert both.size == FRAME.photo_size
    assert len(both) == 0


@torch.no_grad()
def test_granularities_are_merged_without_overlap_and_named():
    decoder, features = _decoder(film=True), random_features(0)
    best = _best(nms_threshold=0.6)
    single = {value: best(decoder, features, FRAME, [value]) for value in (0.25, 0.5)}
    both = best(decoder, features, FRAME, [0.25, 0.5])
    assert set(both.granularity.tolist()) == {0.25, 0.5}
    assert len(both) < sum(map(len, single.values()))
    for value, alone in single.items():
        # Every mask is one that its granularity gives alone.
        mine = both.filter(both.granularity == value)
        assert (mine.iou(alone).max(axis=1) == 1).all()
    predictions = decoder(features, torch.tensor([[0.25, 0.5]]))[-1]
    candidates = best._best(predictions, torch.tensor([[0.25, 0.5]]))
    kept = candidates.take(best._distinct(candidates, features, FRAME))
    logits = torch.einsum("nc,chw->nhw", kept.embeddings, features.mask_features[0])
    cells = (logits[:, :24, :15] > 0).flatten(1).double()
    common = cells @ cells.T
    iou = common / (cells.sum(1)[:, None] + cells.sum(1)[None] - common).clamp(min=1)
    assert (iou - torch.eye(len(iou))).max() <= 0.6
    assert (grown_logits(logits, FRAME) > 0).flatten(1).any(1).sum() == len(both)


@torch.no_grad()
def test_without_a_choice_the_configured_granularities_are_asked_for():
    decoder, features = _decoder(film=True), random_features(0)
    configured = _best(granularities=(0.25, 0.5))
    assert configured(decoder, features, FRAME) == _best()(decoder, features, FRAME, (0.25, 0.5))


def test_no_granularity_to_ask_for_is_said():
    with pytest.raises(ValueError, match=r"name one or set INFERENCE\.GRANULARITIES"):
        _best()(_decoder(film=True), random_features(0), FRAME)


def test_an_unknown_precision_is_named():
    with pytest.raises(ConfigError, match="unknown 'half'"):
        BestQueries(precision="half")
