"""Random numbers of training that belong to a sample, not to the process that it is trained by.

What is drawn for a photo then depends on the seed, the pass and the photo alone: the same recipe
trains alike on one process and on eight, whatever else is in the batch, and a resumed run draws
what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class SampleRandom:
    """One stream of random numbers per sample of a batch, on the CPU.

    Args:
        seeds: one non-negative integer per sample.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._seeds = [int(seed) for seed in seeds]
        self._generators = [torch.Generator().manual_seed(seed) for seed in self._seeds]

    @classmethod
    def from_batch(cls, batch: Sequence[Mapping[str, Any]]) -> SampleRandom:
        """Return the streams of samples; one without ``seed`` takes it from torch's generator."""
        return cls(
            [
                int(sample["seed"]) if "seed" in sample else int(torch.randint(2**62, ()))
                for sample in batch
            ]
        )

    def __len__(self) -> int:
        return len(self._seeds)

    def fork(self, purpose: str) -> SampleRandom:
        """Return fresh streams of their own for a named purpose.

        The same purpose gives the same numbers again, and nothing that another purpose draws moves
        them: an objective that is switched on leaves the clicks of the others as they were.
        """
        return SampleRandom([_mixed(seed, purpose) for seed in self._seeds])

    def of(self, index: int) -> SampleRandom:
        """Return the stream of sample `index` alone, which goes on where it is."""
        one = SampleRandom([self._seeds[index]])
        one._generators = [self._generators[index]]
        return one

    def generator(self, index: int) -> torch.Generator:
        """Return the stream of sample `index`."""
        return self._generators[index]

    def uniform(self, counts: Sequence[int], *shape: int) -> Tensor:
        """Draw from [0, 1): float32 ``[sum(counts), *shape]``, `counts[i]` rows of sample i."""
        return self._draw(torch.rand, counts, shape)

    def normal(self, counts: Sequence[int], *shape: int) -> Tensor:
        """Draw from the normal distribution, in the layout of `uniform`."""
        return self._draw(torch.randn, counts, shape)

    def _draw(
        self, function: Callable[..., Tensor], counts: Sequence[int], shape: tuple[int, ...]
    ) -> Tensor:
        rows = [
            function(count, *shape, generator=generator)
            for count, generator in zip(counts, self._generators, strict=True)
        ]
        return torch.cat(rows) if rows else torch.zeros(0, *shape)


def _mixed(seed: int, purpose: str) -> int:
    digest = hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
