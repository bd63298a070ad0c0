"""Numbers of training that cannot be are named at once."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import pytest

from unsam.config import get_cfg, list_configs, load_config
from unsam.config.bounds import check_bounds
from unsam.errors import ConfigError


def test_defaults_are_within_bounds() -> None:
    check_bounds(get_cfg())


@pytest.mark.parametrize("name", list_configs())
def test_every_recipe_is_within_bounds(name: str) -> None:
    check_bounds(load_config(name))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SOLVER.MAX_ITER", 0),
        ("SOLVER.MAX_SECONDS", -1.0),
        ("SOLVER.MAX_SECONDS", math.nan),
        ("SOLVER.BATCH_SIZE", 0),
        ("SOLVER.ACCUMULATE", -1),
        ("SOLVER.BASE_LR", math.inf),
        ("SOLVER.WEIGHT_DECAY", -0.1),
        ("SOLVER.BACKBONE_MULTIPLIER", -1.0),
        ("SOLVER.WARMUP_ITERS", -1),
        ("SOLVER.CLIP_NORM", -1.0),
        ("SOLVER.LOG_PERIOD", 0),
        ("SOLVER.FINAL_LR_RATIO", 1.5),
        ("SOLVER.LAYER_DECAY", 0.0),
        ("SOLVER.LAYER_DECAY", 1.1),
        ("SOLVER.GAMMA", 0.0),
        ("SOLVER.BETAS", (0.9, 1.0)),
        ("SOLVER.BETAS", (0.9,)),
        ("SOLVER.EMA.DECAY", 1.0),
        ("SOLVER.EMA.DECAY", -0.1),
        ("SOLVER.TIMEOUT_MINUTES", 0.0),
        ("TASKS.START", 1.5),
        ("CHECKPOINT.KEEP", -1),
        ("LOGGING.SAMPLE_PHOTOS", 0),
        ("DATALOADER.NUM_WORKERS", -1),
        ("CRITERION.DICE_WEIGHT", -1.0),
        ("MODEL.CLICKS.BOX_PROBABILITY", 1.5),
        ("INPUT.FLIP_PROBABILITY", math.nan),
        ("INPUT.ROTATION", -10.0),
        ("INPUT.SHEAR", 81.0),
        ("INPUT.CROP_SCALE", (0.5,)),
        ("INPUT.JITTER_SCALE", (1.0, math.inf)),
        ("INPUT.SECOND_VIEW.CROP_SCALE", (0.5, 0.6, 0.7)),
        ("INPUT.COLOUR_JITTER", (0.1, 0.2)),
        ("INPUT.COLOUR_JITTER", (-0.1, 0.0, 0.0)),
        ("INPUT.PIXEL_MEAN", (0.0, 0.0, 256.0)),
        ("INPUT.PIXEL_STD", (0.0, 1.0, 1.0)),
    ],
)
def test_error_names_key_and_value(key: str, value: Any) -> None:
    cfg = get_cfg()
    *path, name = key.split(".")
    reduce(getattr, path, cfg)[name] = value
    shown = list(value) if isinstance(value, tuple) else value
    with pytest.raises(ConfigError) as caught:
        check_bounds(cfg)
    assert str(caught.value).startswith(f"{key} is ")
    assert str(caught.value).endswith(f", got {shown}")
