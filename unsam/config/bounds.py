"""The numbers that training may be given; whole parts of the config check the rest themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

from fvcore.common.config import CfgNode

from unsam.errors import ConfigError


class _Range(NamedTuple):
    text: str
    holds: Callable[[float], bool]
    keys: tuple[str, ...]


# Not a number is in no range: each comparison with it is false.
_RANGES = (
    _Range(
        "at least 0",
        lambda value: value >= 0,
        (
            "SOLVER.MAX_SECONDS",
            "INPUT.SQUARE_SIZE",
            "SOLVER.BASE_LR",
            "SOLVER.WEIGHT_DECAY",
            "SOLVER.BACKBONE_MULTIPLIER",
            "SOLVER.WARMUP_ITERS",
            "SOLVER.CLIP_NORM",
            "SOLVER.EVAL_PERIOD",
            "CHECKPOINT.PERIOD",
            "CHECKPOINT.KEEP",
            "LOGGING.SAMPLE_PERIOD",
            "DATALOADER.NUM_WORKERS",
            "DATALOADER.MIN_MASK_AREA",
            "CRITERION.FOCAL_WEIGHT",
            "CRITERION.DICE_WEIGHT",
            "CRITERION.QUALITY_WEIGHT",
            "CRITERION.CONTOUR_WEIGHT",
            "CRITERION.OBJECT_WEIGHT",
        ),
    ),
    _Range(
        "over 0",
        lambda value: value > 0,
        (
            "SOLVER.TIMEOUT_MINUTES",
            "INPUT.PIXEL_STD",
            "INPUT.JITTER_SCALE",
            "INPUT.COPY_PASTE_SCALE",
        ),
    ),
    _Range(
        "at least 1",
        lambda value: value >= 1,
        (
            "SOLVER.MAX_ITER",
            "SOLVER.BATCH_SIZE",
            "SOLVER.ACCUMULATE",
            "SOLVER.LOG_PERIOD",
            "LOGGING.SAMPLE_PHOTOS",
            "DATALOADER.MAX_MASKS",
            "INPUT.IMAGE_SIZE",
            "INPUT.SHORTER_SIDE",
            "INPUT.MAX_LONGER_SIDE",
        ),
    ),
    _Range(
        "in [0, 1]",
        lambda value: 0 <= value <= 1,
        (
            "SOLVER.FINAL_LR_RATIO",
            "SOLVER.STEPS",
            "TASKS.START",
            "INPUT.COLOUR_JITTER",
            "INPUT.FLIP_PROBABILITY",
            "INPUT.GREY_PROBABILITY",
            "INPUT.COPY_PASTE_PROBABILITY",
            "MODEL.CLICKS.CENTRE_PROBABILITY",
            "MODEL.CLICKS.BOX_PROBABILITY",
        ),
    ),
    _Range(
        "in (0, 1]",
        lambda value: 0 < value <= 1,
        ("SOLVER.LAYER_DECAY", "SOLVER.GAMMA", "INPUT.CROP_SCALE"),
    ),
    _Range("in [0, 1)", lambda value: 0 <= value < 1, ("SOLVER.BETAS", "SOLVER.EMA.DECAY")),
    _Range("in [0, 255]", lambda value: 0 <= value <= 255, ("INPUT.PIXEL_MEAN",)),
    _Range("in [0, 180]", lambda value: 0 <= value <= 180, ("INPUT.ROTATION",)),
    _Range("in [0, 80]", lambda value: 0 <= value <= 80, ("INPUT.SHEAR",)),
)

_LENGTHS = {
    "SOLVER.BETAS": 2,
    "INPUT.CROP_SCALE": 2,
    "INPUT.JITTER_SCALE": 2,
    "INPUT.COPY_PASTE_SCALE": 2,
    "INPUT.SECOND_VIEW.CROP_SCALE": 2,
    "INPUT.COLOUR_JITTER": 3,
    "INPUT.PIXEL_MEAN": 3,
    "INPUT.PIXEL_STD": 3,
}


def check_bounds(cfg: CfgNode) -> None:
    """Check the numbers of training before anything is built from them.

    Raises:
        ConfigError: one is out of its range, or there are too few or too many; the text names the
            key and the value.
    """
    for key, length in _LENGTHS.items():
        if len(_value(cfg, key)) != length:
            raise ConfigError(f"{key} is {length} numbers, got {list(_value(cfg, key))}")
    for text, holds, keys in _RANGES:
        for key in keys:
            value = _value(cfg, key)
            numbers = value if isinstance(value, tuple | list) else (value,)
            if not all(_is_finite(number) and holds(number) for number in numbers):
                shown = list(value) if isinstance(value, tuple) else value
                raise ConfigError(f"{key} is {text}, got {shown}")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _value(cfg: CfgNode, key: str) -> Any:
    return reduce(getattr, key.split("."), cfg)
