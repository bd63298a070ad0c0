"""Values of PSEUDO_MASKS that cannot work, found before any weights are loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import reduce
from itertools import pairwise
from typing import Any

from fvcore.common.config import CfgNode

from unsam.errors import ConfigError

# Names outside of a registry.
_CHOICES = {
    "HIERARCHY": ("regions", "instances"),
    "COMPAT": ("none", "published"),
    "EMBEDDING.NAME": ("spectral", "none"),
    "INSTANCES.RELATION": ("all", "containment"),
    "GRANULARITY.KIND": ("relative", "absolute"),
    "FEATURES.VIT.OUTPUT": ("keys", "tokens"),
    "FEATURES.VIT.INPUT_SHAPE": ("square", "longest"),
    "FEATURES.VIT.PRECISION": ("auto", "float32", "bfloat16", "float16"),
}
# Intervals in the notation that the error shows; of a list, each number lies in it.
_RANGES = {
    "WORK_SIZE": "[1, inf)",
    "MAX_MASKS": "[1, inf)",
    "MIN_AREA_SHARE": "[0, 1)",
    "NMS_IOU": "[0, 1]",
    "CONTAINMENT": "(0, 1]",
    "REGIONS.SCALES": "(0, inf)",
    "REGIONS.SIGMA": "[0, inf)",
    "REGIONS.MIN_SIZE": "[0, inf)",
    "FEATURES.COLOR_BINS": "[2, inf)",
    "FEATURES.TEXTURE_BINS": "[2, inf)",
    "FEATURES.TEXTURE_WEIGHT": "[0, inf)",
    "FEATURES.GRID_SIZE": "[1, inf)",
    "FEATURES.VIT.INPUT_SIZE": "[1, inf)",
    "FEATURES.VIT.BATCH_SIZE": "[1, inf)",
    "EMBEDDING.DIMS": "[1, inf)",
    "EMBEDDING.EDGE_SCALE": "(0, inf)",
    "EMBEDDING.FEATURE_SCALE": "(0, inf)",
    "CONQUER.THRESHOLDS": "[-1, 1]",
    "CONQUER.MIN_PATCHES": "[1, inf)",
    "CONQUER.MIN_COVERAGE": "[0, 1)",
    "DIVIDE.TAU": "[-1, 1]",
    "DIVIDE.MAX_OBJECTS": "[1, inf)",
    "DIVIDE.MASKCUT.INPUT_SIZE": "[8, inf)",
    "DIVIDE.CUTLER.SCORE_THRESHOLD": "[0, 1]",
    "DIVIDE.CUTLER.MAX_DETECTIONS": "[1, inf)",
    "DIVIDE.CUTLER.SHORT_SIDE": "[1, inf)",
    "DIVIDE.CUTLER.LONG_SIDE": "[1, inf)",
    "INSTANCES.MIN_AREA_SHARE": "[0, 1)",
    "INSTANCES.CONTAINMENT": "[0.5, 1)",
    "REFINE.MIN_IOU": "[0, 1]",
    "REFINE.MAX_AREA_SHARE": "(0, 1]",
    "REFINE.GUIDED.RADIUS_SHARE": "(0, 1]",
    "REFINE.GUIDED.EPSILON": "(0, inf)",
    "REFINE.SUPERPIXEL.SCALE": "(0, inf)",
    "REFINE.CRF.INPUT_SIZE": "[8, inf)",
    "REFINE.CRF.ITERATIONS": "[1, inf)",
    "REFINE.CASCADEPSP.MIN_SIZE": "[8, inf)",
    "REFINE.CASCADEPSP.MAX_SIZE": "[8, inf)",
    "GRANULARITY.FINE_SHARE": "[0, 1]",
}
_CHECKSUMS = ("FEATURES.VIT.SHA256", "DIVIDE.CUTLER.SHA256")


def check_pseudo_masks(node: CfgNode) -> None:
    """Check every key of PSEUDO_MASKS, also those that the other keys leave unused.

    Raises:
        ConfigError: a value is out of its range; one line with the key and what is allowed.
    """
    for key, known in _CHOICES.items():
        if _value(node, key) not in known:
            allowed = " or ".join([", ".join(known[:-1]), known[-1]])
            raise _wrong(key, f"'{_value(node, key)}' is not {allowed}")
    for key, interval in _RANGES.items():
        given = _value(node, key)
        for number in given if isinstance(given, tuple) else (given,):
            if not _inside(number, interval):
                raise _wrong(key, f"{number} is not in {interval}")
    if not node.REGIONS.SCALES:
        raise _wrong("REGIONS.SCALES", "needs at least one scale")
    if not _descending(node.CONQUER.THRESHOLDS):
        raise _wrong(
            "CONQUER.THRESHOLDS", f"{list(node.CONQUER.THRESHOLDS)} do not go from high to low"
        )
    for key in _CHECKSUMS:
        if not re.fullmatch(r"\s*([0-9a-fA-F]{64})?\s*", _value(node, key)):
            raise _wrong(key, f"'{_value(node, key)}' is not 64 hexadecimal digits")


def _value(node: CfgNode, key: str) -> Any:
    return reduce(lambda section, name: section[name], key.split("."), node)


def _inside(number: float, interval: str) -> bool:
    low, high = (float(limit) for limit in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    below = number <= high if interval[-1] == "]" else number < high
    return above and below and math.isfinite(number)


def _descending(numbers: Iterable[float]) -> bool:
    return all(first > second for first, second in pairwise(numbers))


def _wrong(key: str, reason: str) -> ConfigError:
    return ConfigError(f"PSEUDO_MASKS.{key}: {reason}")
