"""Values of ``SOLVER`` that cannot be are named at once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.solver import check_bounds


def test_defaults_are_within_bounds() -> None:
    check_bounds(get_cfg())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MAX_ITER", 0),
        ("MAX_SECONDS", -1.0),
        ("MAX_SECONDS", math.nan),
        ("BATCH_SIZE", 0),
        ("ACCUMULATE", -1),
        ("BASE_LR", math.inf),
        ("WEIGHT_DECAY", -0.1),
        ("BACKBONE_MULTIPLIER", -1.0),
        ("WARMUP_ITERS", -1),
        ("CLIP_NORM", -1.0),
        ("LOG_PERIOD", 0),
        ("FINAL_LR_RATIO", 1.5),
        ("LAYER_DECAY", 0.0),
        ("LAYER_DECAY", 1.1),
        ("GAMMA", 0.0),
        ("BETAS", (0.9, 1.0)),
        ("BETAS", (0.9,)),
        ("EMA.DECAY", 1.0),
        ("EMA.DECAY", -0.1),
    ],
)
def test_error_names_key_and_value(key: str, value: Any) -> None:
    cfg = get_cfg()
    node, name = (cfg.SOLVER.EMA, "DECAY") if key == "EMA.DECAY" else (cfg.SOLVER, key)
    node[name] = value
    shown = list(value) if isinstance(value, tuple) else value
    with pytest.raises(ConfigError) as caught:
        check_bounds(cfg)
    assert str(caught.value).startswith(f"SOLVER.{key} ")
    assert str(caught.value).endswith(f"got {shown}")
