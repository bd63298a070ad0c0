"""The random generators of a process: seeding, saving and restoring them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python's, NumPy's and torch's (CPU and CUDA) global generators, each rank its own way.

    Args:
        seed: any integer.
        rank: the process; different ranks draw different numbers.
    """
    words = np.random.SeedSequence([seed % 2**63, rank]).generate_state(3)
    random.seed(int(words[0]))
    # The legacy global generator is seeded for libraries that draw from it; our own code does not.
    np.random.seed(int(words[1]))  # noqa: NPY002
    torch.manual_seed(int(words[2]))


def seed_torch(seed: int, iteration: int, place: int) -> None:
    """Seed torch's generators for one micro-batch.

    Args:
        seed: of the run.
        iteration: finished steps.
        place: number of the micro-batch within the step, over all ranks.
    """
    words = np.random.SeedSequence([seed % 2**63, iteration, place]).generate_state(1)
    torch.manual_seed(int(words[0]))


def capture(device: torch.device) -> dict[str, Any]:
    """Return the state of all global generators, as tensors and plain values only."""
    numpy_state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    kind, keys, place, has_gauss, cached = numpy_state
    return {
        "python": random.getstate(),
        "numpy": [
            str(kind),
            torch.from_numpy(keys.astype(np.int64)),
            int(place),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore(state: dict[str, Any], device: torch.device) -> None:
    """Set all global generators to a state that `capture` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, place, has_gauss, cached = state["numpy"]
    np.random.set_state(  # noqa: NPY002
        (kind, keys.numpy().astype(np.uint32), place, has_gauss, cached)
    )
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)
