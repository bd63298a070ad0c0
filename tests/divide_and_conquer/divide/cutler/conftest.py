from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from divide_and_conquer.divide.cutler.detector import CascadeMaskRcnn
from tests.golden_weights import recipe_state_dict
from unsam.structures import read_photo


@functools.cache
def recipe_net(folder: Path) -> CascadeMaskRcnn:
    """The net with the weights of a golden pack's recipe."""
    with torch.device("meta"):
        net = CascadeMaskRcnn()
    net.to_empty(device="cpu")
    net.load_state_dict(recipe_state_dict(folder), strict=True)
    return net.eval().requires_grad_(False)


@pytest.fixture
def net(golden_root):
    return recipe_net(golden_root / "cutler")


@pytest.fixture(scope="session")
def photos(data_root):
    folder = data_root / "bsds500" / "images" / "val"
    return [read_photo(path) for path in sorted(folder.iterdir())[:6]]
