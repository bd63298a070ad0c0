"""Every wrong value of PSEUDO_MASKS is one line that names its key, before weights are loaded."""

from __future__ import annotations

import pytest

from divide_and_conquer.config_checks import _CHOICES, _RANGES, check_pseudo_masks
from divide_and_conquer.pipeline import build_masker
from unsam.config import get_cfg, list_configs, load_config
from unsam.config.loading import flatten
from unsam.errors import ConfigError, DataError

WRONG = [
    ("HIERARCHY", "pixels", "regions or instances"),
    ("COMPAT", "old", "none or published"),
    ("WORK_SIZE", 0, "[1, inf)"),
    ("MAX_MASKS", -1, "[1, inf)"),
    ("MIN_AREA_SHARE", -0.1, "[0, 1)"),
    ("MIN_AREA_SHARE", 1.0, "[0, 1)"),
    ("NMS_IOU", 1.1, "[0, 1]"),
    ("CONTAINMENT", 0.0, "(0, 1]"),
    ("REGIONS.SCALES", (50.0, -1.0), "(0, inf)"),
    ("REGIONS.SCALES", (), "at least one"),
    ("REGIONS.SIGMA", float("nan"), "[0, inf)"),
    ("FEATURES.NAME", "dino", "classical, vit"),
    ("FEATURES.COLOR_BINS", 1, "[2, inf)"),
    ("FEATURES.GRID_SIZE", 0, "[1, inf)"),
    ("FEATURES.VIT.OUTPUT", "values", "keys or tokens"),
    ("FEATURES.VIT.INPUT_SIZE", 0, "[1, inf)"),
    ("FEATURES.VIT.SHA256", "abc", "64 hexadecimal"),
    ("EMBEDDING.EDGE_SCALE", 0.0, "(0, inf)"),
    ("CONQUER.THRESHOLDS", (0.5, 0.9), "high to low"),
    ("CONQUER.THRESHOLDS", (0.5, 0.5), "high to low"),
    ("CONQUER.THRESHOLDS", (-1.5,), "[-1, 1]"),
    ("CONQUER.MIN_PATCHES", 0, "[1, inf)"),
    ("CONQUER.MIN_COVERAGE", 1.0, "[0, 1)"),
    ("DIVIDE.NAME", "zzz", "cutler, maskcut, ncut, none"),
    ("DIVIDE.MAX_OBJECTS", 0, "[1, inf)"),
    ("DIVIDE.CUTLER.SCORE_THRESHOLD", -0.3, "[0, 1]"),
    ("INSTANCES.CONTAINMENT", 0.4, "[0.5, 1)"),
    ("REFINE.NAME", "zzz", "cascadepsp, crf, guided, none, superpixel"),
    ("REFINE.CRF.ITERATIONS", 0, "[1, inf)"),
    ("GRANULARITY.FINE_SHARE", float("inf"), "[0, 1]"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG)
def test_a_wrong_value_names_its_key_and_what_is_allowed(key, value, allowed):
    cfg = get_cfg()
    *sections, last = f"PSEUDO_MASKS.{key}".split(".")
    node = cfg
    for name in sections:
        node = node[name]
    node[last] = value
    with pytest.raises(ConfigError) as caught:
        build_masker(cfg)
    text = str(caught.value)
    assert text.startswith(f"PSEUDO_MASKS.{key}: ")
    assert allowed in text
    assert "\n" not in text


def test_every_number_has_a_range():
    numbers = {
        key for key, value in flatten(get_cfg().PSEUDO_MASKS) if not isinstance(value, (bool, str))
    }
    assert set(_RANGES) == numbers
    assert set(_CHOICES) <= {key for key, _ in flatten(get_cfg().PSEUDO_MASKS)}


@pytest.mark.parametrize("name", [name for name in list_configs() if "pseudo_masks/" in name])
def test_the_presets_pass(name):
    check_pseudo_masks(load_config(name).PSEUDO_MASKS)


def test_a_wrong_value_is_found_before_weights_are_asked_for():
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.FEATURES.NAME = "vit"
    cfg.PSEUDO_MASKS.FEATURES.VIT.WEIGHTS = "/nowhere.pth"
    cfg.PSEUDO_MASKS.FEATURES.VIT.PRECISION = "half"
    with pytest.raises(ConfigError, match=r"VIT\.PRECISION: 'half' is not auto, "):
        build_masker(cfg)


def test_given_masks_that_are_not_there_name_their_key():
    cfg = get_cfg()
    cfg.PSEUDO_MASKS.DIVIDE.GIVEN_MASKS = "/nowhere"
    with pytest.raises(DataError, match=r"^PSEUDO_MASKS\.DIVIDE\.GIVEN_MASKS: /nowhere"):
        build_masker(cfg)
