"""Weights by recipe: the values of every published key, as golden/README.md defines them."""

from __future__ import annotations

import fnmatch
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch


def recipe_state_dict(pack: Path) -> dict[str, torch.Tensor]:
    """Return the state dict of a golden pack (the folder with keys.json and recipe.json).

    Keys whose value only the network itself can compute ("architecture") are left out.
    """
    keys = json.loads((pack / "keys.json").read_text())
    recipe = json.loads((pack / "recipe.json").read_text())
    made: dict[str, torch.Tensor] = {}
    result = {}
    for key, entry in keys.items():
        fixed = _first_match(key, recipe.get("fixed", {}).items())
        if fixed == "architecture":
            continue
        dtype = getattr(torch, entry["dtype"])
        if fixed is not None:
            value = torch.tensor(fixed, dtype=dtype)
            result[key] = value.expand(entry["shape"]).clone() if value.ndim == 0 else value
            continue
        name = recipe.get("aliases", {}).get(key, key)
        if name not in made:
            made[name] = torch.from_numpy(_values(name, entry["shape"], recipe)).to(dtype)
        result[key] = made[name]
    return result


def _first_match(key: str, patterns: Any) -> Any:
    return next((value for pattern, value in patterns if fnmatch.fnmatchcase(key, pattern)), None)


def _values(name: str, shape: list[int], recipe: dict[str, Any]) -> np.ndarray:
    override = (
        _first_match(name, ((item["pattern"], item) for item in recipe.get("overrides", []))) or {}
    )
    seed = (zlib.crc32(name.encode()) + recipe["seed_offset"]) % 2**32
    base = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    last = name.rsplit(".", 1)[-1]
    if last == "running_var":
        values = np.float32(0.5) + np.float32(0.5) * np.abs(base)
    elif last == "running_mean":
        values = np.float32(0.1) * base
    elif len(shape) >= 2:
        factor = override.get("gain", 1.0) / math.sqrt(math.prod(shape[1:]))
        values = base * np.float32(factor)
    else:
        offset, scale = (1.0, 0.1) if last == "weight" else (0.0, 0.05)
        offset, scale = override.get("offset", offset), override.get("scale", scale)
        values = np.float32(offset) + np.float32(scale) * base
    if "add" in override:
        values = values + np.asarray(override["add"], np.float32)
    return values.astype(np.float32)
