"""The optimizer that a config describes."""

from __future__ import annotations

import pytest
import torch
from fvcore.common.config import CfgNode
from torch import nn

from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.solver import build_optimizer


def rates(cfg: CfgNode, model: nn.Module, distances: dict[str, int]) -> dict[str, float]:
    optimizer = build_optimizer(cfg, model, distances)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def test_model_without_parameters_cannot_be_trained() -> None:
    with pytest.raises(ConfigError, match="--eval-only"):
        build_optimizer(get_cfg(), nn.Identity())


def test_optimizer_follows_the_config() -> None:
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.BETAS = 0.25, (0.5, 0.6)
    optimizer = build_optimizer(cfg, nn.Linear(2, 2))
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)


def test_encoder_learns_more_slowly_the_deeper_it_lies() -> None:
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR = 2.0
    cfg.SOLVER.BACKBONE_MULTIPLIER, cfg.SOLVER.LAYER_DECAY = 0.1, 0.5
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1))
    found = rates(cfg, model, {"0.weight": 2, "0.bias": 2, "1.weight": 0, "1.bias": 0})
    assert found == pytest.approx(
        {
            "0.weight": 0.05,
            "0.bias": 0.05,
            "1.weight": 0.2,
            "1.bias": 0.2,
            "2.weight": 2.0,
            "2.bias": 2.0,
        }
    )


def test_one_step_moves_the_encoder_by_its_share() -> None:
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.BACKBONE_MULTIPLIER, cfg.SOLVER.WEIGHT_DECAY = 0.1, 0.25, 0.0
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(0.0)
        model.bias.fill_(0.0)
    optimizer = build_optimizer(cfg, model, {"weight": 0})
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    assert model.bias.item() == pytest.approx(-0.1)
    assert model.weight.item() == pytest.approx(-0.025)


@pytest.mark.parametrize("key", ["BACKBONE_MULTIPLIER", "LAYER_DECAY"])
def test_model_without_encoder_has_no_rate_for_one(key: str) -> None:
    cfg = get_cfg()
    cfg.SOLVER[key] = 0.5
    with pytest.raises(ConfigError, match=f"no image encoder.*SOLVER.{key}"):
        build_optimizer(cfg, nn.Linear(2, 2))
