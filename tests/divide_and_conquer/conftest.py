"""A config and photos small enough for hundreds of runs, and an engine without processes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from divide_and_conquer import generate
from divide_and_conquer.generation.worker import make_one
from divide_and_conquer.pipeline import build_masker
from unsam.config import get_cfg


@pytest.fixture(scope="session")
def tiny_cfg():
    """PSEUDO_MASKS for photos of a few dozen pixels."""
    node = get_cfg()
    node.DEVICE = "cpu"
    node.PSEUDO_MASKS.WORK_SIZE = 64
    node.PSEUDO_MASKS.MAX_MASKS = 20
    return node


@pytest.fixture(scope="session")
def save_photo():
    """Return a function that writes the seeded photo `seed` to a path."""

    def save(path, seed=0, **options):
        rng = np.random.default_rng(seed)
        image = np.full((40, 56, 3), 60, np.uint8)
        image[8:30, 10:40] = rng.integers(100, 255, 3)
        image[12:20, 15:25] = rng.integers(0, 100, 3)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, **options)

    return save


@pytest.fixture
def in_process(monkeypatch, tiny_cfg):
    """Replace the local engine by one in this process; the list tells which photos were made."""
    masker = build_masker(tiny_cfg)
    made = []

    def run(tasks, setup, workers, gpus=()):
        for task in tasks:
            answer = make_one(masker, task)
            if not answer.get("kept") and "error" not in answer:
                made.append(task["name"])
            yield task, answer

    monkeypatch.setattr(generate, "run_local", run)
    return made
