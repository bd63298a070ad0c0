"""How the learning rate goes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.solver import Schedule


def make_schedule(**arguments: Any) -> tuple[Schedule, torch.optim.Optimizer]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    return Schedule(optimizer, **arguments), optimizer


def test_shape_of_the_cosine() -> None:
    schedule, optimizer = make_schedule(warmup_iters=10, final_ratio=0.1)
    rates = [schedule.apply(step, step / 1000) for step in range(1000)]
    assert optimizer.param_groups[0]["lr"] == rates[-1]
    assert rates[0] == pytest.approx(0.2, rel=1e-3)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[500] == pytest.approx(1.1)
    assert schedule.factor(1000, 1.0) == pytest.approx(0.1)


def test_steps_fall_at_their_shares_of_the_run() -> None:
    cfg = get_cfg()
    cfg.SOLVER.SCHEDULE, cfg.SOLVER.STEPS, cfg.SOLVER.GAMMA = "step", (0.8, 0.9), 0.5
    cfg.SOLVER.WARMUP_ITERS = 2
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    schedule = Schedule.from_config(cfg, optimizer)
    rates = [schedule.apply(step, step / 10) for step in range(10)]
    assert rates == pytest.approx([1.0, *[2.0] * 7, 1.0, 0.5])


def test_every_group_keeps_its_share_of_the_rate() -> None:
    fast, slow = nn.Linear(1, 1), nn.Linear(1, 1)
    groups = [{"params": slow.parameters(), "lr": 0.2}, {"params": fast.parameters(), "lr": 2.0}]
    optimizer = torch.optim.SGD(groups)
    schedule = Schedule(optimizer)
    for progress in (0.0, 0.3, 0.9):
        highest = schedule.apply(0, progress)
        assert optimizer.param_groups[1]["lr"] == highest
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * highest)


@given(st.integers(0, 50), st.floats(0, 1), st.integers(0, 100), st.floats(-1, 2))
def test_rate_stays_between_nothing_and_the_base(
    warmup: int, final: float, iteration: int, progress: float
) -> None:
    schedule, _ = make_schedule(warmup_iters=warmup, final_ratio=final)
    factor = schedule.factor(iteration, progress)
    assert 0.0 <= factor <= 1.0
    assert math.isfinite(factor)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "linear"}, r"SOLVER\.SCHEDULE is one of cosine, step, got 'linear'"),
        ({"kind": "step", "steps": (0.9, 0.8)}, r"SOLVER\.STEPS are ascending.*\[0\.9, 0\.8\]"),
        ({"kind": "step", "steps": (600.0,)}, r"SOLVER\.STEPS .* got \[600\.0\]"),
    ],
)
def test_schedules_that_cannot_be(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_schedule(**arguments)
