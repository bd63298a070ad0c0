"""What training supervises besides the mask: object score and predicted quality."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.modeling.conftest import make_sample
from tests.modeling.sam2.tiny import SIZE, clicks, photos, tiny_cfg, tiny_model
from unsam.errors import ConfigError
from unsam.modeling import GranularSam
from unsam.modeling.criterion import MaskCriterion
from unsam.modeling.granular_parts import freeze_all_but_granularity

POINTS = torch.tensor([[[10.0, 20.0]], [[40.0, 4.0]]])


def losses_of(quality_head: bool = False, granular: bool = True, object_weight: float = 1.0):
    cfg = tiny_cfg(granular)
    cfg.MODEL.GRANULARITY.QUALITY_HEAD = quality_head
    cfg.CRITERION.OBJECT_WEIGHT = object_weight
    model = tiny_model(granular, cfg).train()
    if granular:
        freeze_all_but_granularity(model)
    sample = make_sample(0, size=(SIZE, SIZE)) | {"seed": 0}
    return model, model([sample])


def reached(model: nn.Module, loss: Tensor) -> set[str]:
    model.zero_grad()
    loss.backward(retain_graph=True)
    named = model.named_parameters()
    return {name for name, p in named if p.grad is not None and p.grad.any()}


def test_the_quality_of_published_weights_is_learned_through_the_low_rank_updates() -> None:
    model, losses = losses_of()
    names = reached(model, losses["loss_quality"])
    assert any("lora_b" in name for name in names)
    assert not any("iou_prediction_head" in name for name in names), "frozen"


def test_a_quality_head_of_its_own_is_learned() -> None:
    model, losses = losses_of(quality_head=True)
    head = {
        f"granularity.quality_head.{name}"
        for name, _ in model.granularity.quality_head.named_parameters()
    }
    assert head <= reached(model, losses["loss_quality"])
    assert not head & reached(model, losses["loss_focal"] + losses["loss_object"])


def test_the_object_score_is_learned_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    forward = MaskCriterion.forward

    def listen(self: MaskCriterion, *arguments: Any) -> dict[str, Tensor]:
        rounds.append(forward(self, *arguments))
        return rounds[-1]

    monkeypatch.setattr(MaskCriterion, "forward", listen)
    model, losses = losses_of(granular=False)
    assert len(rounds) == model.clicks.rounds == 2
    expected = torch.stack([terms["loss_object"] for terms in rounds]).mean()
    torch.testing.assert_close(losses["loss_object"], expected)
    names = reached(model, losses["loss_object"])
    assert any("pred_obj_score_head" in name for name in names)


def test_decoding_with_the_object_score_is_decoding() -> None:
    model = tiny_model(granular=True)
    features, prompts = model.encode(photos(1)), clicks(POINTS)
    logits, quality, score = model.decode_with_object(features, prompts)
    assert all(map(torch.equal, (logits, quality), model.decode(features, prompts)))
    assert score.shape == (2,)


def test_without_a_weight_there_is_no_object_loss() -> None:
    assert "loss_object" not in losses_of(object_weight=0.0)[1]


def test_a_model_that_knows_no_granularity_still_gives_its_score() -> None:
    model = tiny_model()
    features = model.encode(photos(1))
    asked, plain = clicks(POINTS, [0.1, 1.0]), clicks(POINTS)
    logits, quality, score = model.decode_with_object(features, asked)
    several = model.answer(features, plain, several=True)
    assert all(row in list(own) for row, own in zip(quality, several.quality, strict=True))
    assert torch.equal(score, several.object_score)
    assert logits.shape == several.logits[:, 0].shape


def test_models_without_the_score_refuse_its_weight(cfg) -> None:
    cfg.CRITERION.OBJECT_WEIGHT = 1.0
    with pytest.raises(ConfigError, match="GranularSam gives no object score"):
        GranularSam(**GranularSam.from_config(cfg))
