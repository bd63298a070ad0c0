"""What golden tests compare, kept for the table at the end of the run."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch

Array = np.ndarray | torch.Tensor


class Parity:
    """Largest errors by pack and kind of array, each relative to the largest expected value."""

    def __init__(self) -> None:
        self.errors: dict[str, dict[str, float]] = defaultdict(dict)
        self.keys: dict[str, int] = {}

    def error(self, pack: str, kind: str, found: Array, expected: Array) -> float:
        """Return the largest difference, as a share of the largest expected value.

        Of numbers that the pack stores in float16, what that rounding explains does not count.
        """
        ours, theirs = (np.asarray(torch.as_tensor(x).double()) for x in (found, expected))
        assert ours.shape == theirs.shape, f"{pack} {kind}: {ours.shape}, expected {theirs.shape}"
        difference = np.abs(ours - theirs)
        if expected.dtype == np.float16:
            difference = (difference - np.spacing(np.abs(expected)).astype(np.float64) / 2).clip(0)
        error = float(difference.max() / np.abs(theirs).max())
        self.errors[pack][kind] = max(error, self.errors[pack].get(kind, 0.0))
        return error

    def lines(self) -> list[str]:
        """Return one line per pack."""
        return [
            f"{pack}: {self.keys.get(pack, 0)} keys, "
            + ", ".join(f"{kind} {error:.1e}" for kind, error in kinds.items())
            for pack, kinds in self.errors.items()
        ]


PARITY = Parity()
