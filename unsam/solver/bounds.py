"""The values that ``SOLVER`` may have."""

from __future__ import annotations

import math

from fvcore.common.config import CfgNode

from unsam.errors import ConfigError

_AT_LEAST = {
    "MAX_ITER": 1,
    "MAX_SECONDS": 0,
    "BATCH_SIZE": 1,
    "ACCUMULATE": 1,
    "BASE_LR": 0,
    "WEIGHT_DECAY": 0,
    "BACKBONE_MULTIPLIER": 0,
    "WARMUP_ITERS": 0,
    "CLIP_NORM": 0,
    "LOG_PERIOD": 1,
    "EVAL_PERIOD": 0,
}
_SHARES = ("FINAL_LR_RATIO", "LAYER_DECAY", "GAMMA")


def check_bounds(cfg: CfgNode) -> None:
    """Check the numbers of ``SOLVER`` before anything is built from them.

    Raises:
        ConfigError: one is out of its range; the text names the key and the value.
    """
    solver = cfg.SOLVER
    for key, least in _AT_LEAST.items():
        # Not a number is less than nothing and more than nothing alike.
        if not least <= solver[key] < math.inf:
            raise ConfigError(f"SOLVER.{key} is a number of at least {least}, got {solver[key]}")
    for key in _SHARES:
        if not 0.0 < solver[key] <= 1.0 and (key, solver[key]) != ("FINAL_LR_RATIO", 0.0):
            raise ConfigError(f"SOLVER.{key} is a share, in (0, 1], got {solver[key]}")
    if len(solver.BETAS) != 2 or not all(0.0 <= beta < 1.0 for beta in solver.BETAS):
        raise ConfigError(f"SOLVER.BETAS are two numbers in [0, 1), got {list(solver.BETAS)}")
    if not 0.0 <= solver.EMA.DECAY < 1.0:
        raise ConfigError(f"SOLVER.EMA.DECAY is in [0, 1), 0 for none, got {solver.EMA.DECAY}")
