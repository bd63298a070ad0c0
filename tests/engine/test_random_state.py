"""The random generators of a process."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from unsam.engine import random_state


def test_generators_are_captured_and_restored() -> None:
    def draw() -> tuple[Any, ...]:
        return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002

    cpu = torch.device("cpu")
    random_state.seed_everything(3)
    state = random_state.capture(cpu)
    first = draw()
    random_state.restore(state, cpu)
    assert draw() == first
    random_state.seed_everything(3, rank=1)
    other = draw()
    assert all(a != b for a, b in zip(first, other, strict=True))
    random_state.seed_everything(3)
    assert draw() == first
