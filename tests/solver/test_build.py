"""Who decays, and how the learning rate goes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.solver import Schedule, build_optimizer, parameter_groups


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.LayerNorm([4, 2, 2])
        self.words = nn.Embedding(5, 4)
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, 4))
        self.mask_token = nn.Parameter(torch.zeros(1, 4))
        self.patch_embed = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.tied = self.conv


def test_every_trainable_parameter_is_in_one_group() -> None:
    model = Model()
    decayed, free = parameter_groups(model, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(p)] for p in decayed["params"]] == ["conv.weight", "patch_embed.weight"]
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert {names[id(p)] for p in free["params"]} >= {
        "conv.bias",
        "words.weight",
        "pos_embed",
        "mask_token",
    }
    every = [id(p) for group in (decayed, free) for p in group["params"]]
    assert len(every) == len(set(every))
    assert set(every) == {id(p) for p in model.parameters() if p.requires_grad}


def test_model_without_parameters_cannot_be_trained() -> None:
    with pytest.raises(ConfigError, match="--eval-only"):
        build_optimizer(get_cfg(), nn.Identity())


def test_optimizer_follows_the_config() -> None:
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.BETAS = 0.25, (0.5, 0.6)
    optimizer = build_optimizer(cfg, nn.Linear(2, 2))
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)


def make_schedule(warmup: int, final: float) -> tuple[Schedule, torch.optim.Optimizer]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    return Schedule(optimizer, warmup_iters=warmup, final_ratio=final), optimizer


def test_shape_of_the_schedule() -> None:
    schedule, optimizer = make_schedule(warmup=10, final=0.1)
    rates = [schedule.apply(step, step / 1000) for step in range(1000)]
    assert optimizer.param_groups[0]["lr"] == rates[-1]
    assert rates[0] == pytest.approx(0.2, rel=1e-3)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[500] == pytest.approx(1.1)
    assert schedule.factor(1000, 1.0) == pytest.approx(0.1)


@given(st.integers(0, 50), st.floats(0, 1), st.integers(0, 100), st.floats(-1, 2))
def test_rate_stays_between_nothing_and_the_base(
    warmup: int, final: float, iteration: int, progress: float
) -> None:
    schedule, _ = make_schedule(warmup, final)
    factor = schedule.factor(iteration, progress)
    assert 0.0 <= factor <= 1.0
    assert math.isfinite(factor)
