from __future__ import annotations

import math

import pytest
import torch

from tests.modeling.conftest import tiny_cfg
from tests.modeling.mask2former import conftest as whole_image
from unsam.errors import ConfigError
from unsam.modeling import build_model
from unsam.modeling.objectives import OBJECTIVES, Objective, build_objectives


@pytest.fixture(scope="module")
def tiny_model():
    torch.manual_seed(0)
    return build_model(tiny_cfg())


def test_every_node_of_the_config_has_its_class():
    for name in tiny_cfg().OBJECTIVES:
        assert issubclass(OBJECTIVES.get(name.capitalize()), Objective)


def test_objectives_are_off_by_default(tiny_model):
    assert build_objectives(tiny_cfg(), tiny_model) == {}


def test_those_with_a_weight_are_built_in_the_order_of_the_config(tiny_model):
    cfg = tiny_cfg()
    cfg.SOLVER.EMA.DECAY = 0.9
    cfg.OBJECTIVES.NESTING.WEIGHT = 0.5
    cfg.OBJECTIVES.CONSISTENCY.WEIGHT = 2.0
    built = build_objectives(cfg, tiny_model)
    assert list(built) == ["CONSISTENCY", "NESTING"]
    assert built["CONSISTENCY"].schedule(1.0) == 2.0
    assert built["CONSISTENCY"].schedule(0.0) == 0.0
    assert built["NESTING"].schedule(0.0) == 0.5


@pytest.mark.parametrize("name", ["CONSISTENCY", "PROPAGATION"])
def test_an_objective_that_needs_a_teacher_asks_for_one(tiny_model, name):
    cfg = tiny_cfg()
    cfg.OBJECTIVES[name].WEIGHT = 1.0
    with pytest.raises(ConfigError, match=rf"OBJECTIVES.{name}.*SOLVER.EMA.DECAY"):
        build_objectives(cfg, tiny_model)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("CONSISTENCY", "WEIGHT", -1.0),
        ("CONSISTENCY", "LOSS", "square"),
        ("CONSISTENCY", "MASKS_PER_IMAGE", 0),
        ("CONSISTENCY", "START", 0.9),
        ("PROPAGATION", "POINTS_PER_SIDE", 0),
        ("PROPAGATION", "BOX_PROBABILITY", 1.5),
        ("CONTRAST", "TEMPERATURE", math.nan),
        ("VISA", "WEIGHT", math.inf),
        ("VISA", "BOUNDARY_WIDTH", math.inf),
    ],
)
def test_a_wrong_value_is_refused_by_its_node_in_one_line(tiny_model, name, key, value):
    cfg = tiny_cfg()
    cfg.SOLVER.EMA.DECAY = 0.9
    cfg.OBJECTIVES[name].WEIGHT = 1.0
    cfg.OBJECTIVES[name][key] = value
    with pytest.raises(ConfigError, match=rf"^OBJECTIVES\.{name}\b.*\b{key}\b") as caught:
        build_objectives(cfg, tiny_model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["CONSISTENCY", "PROPAGATION"])
def test_a_model_without_prompts_is_refused(name):
    cfg = whole_image.tiny_cfg()
    cfg.SOLVER.EMA.DECAY = 0.9
    cfg.OBJECTIVES[name].WEIGHT = 1.0
    model = whole_image.tiny_mask2former(cfg)
    with pytest.raises(ConfigError, match=f"OBJECTIVES.{name}: Mask2Former answers no prompts"):
        build_objectives(cfg, model)
