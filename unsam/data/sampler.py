"""The order of the photos: a function of the seed and of how many samples were seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from unsam.errors import ConfigError


class SampleKey(NamedTuple):
    """One sample of the run: photo number `photo` as seen in pass `epoch`."""

    epoch: int
    photo: int


class ResumableSampler:
    """Endless micro-batches of one rank, from any position, for any number of ranks.

    The run is one sequence of samples: pass after pass over all photos, each pass in an order that
    depends on the seed and the pass alone. Optimizer step s takes samples
    ``[s * batch_size, (s + 1) * batch_size)`` of it, dealt out to the ranks in turn. So the samples
    of a step are the same whatever the number of ranks, and nothing is lost or repeated when a run
    goes on from ``start`` with another number.

    Args:
        length: number of photos, at least 1.
        batch_size: samples of one optimizer step, over all ranks and micro-batches.
        seed: seed of the order.
        rank: this process, in [0, world_size).
        world_size: number of processes.
        accumulate: micro-batches that one step is cut into on each rank.
        start: samples of the run seen before, over all ranks.
        shuffle: False keeps the given order in every pass.

    Raises:
        ConfigError: batch_size cannot be dealt out evenly.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        start: int = 0,
        shuffle: bool = True,
    ) -> None:
        assert length > 0
        assert 0 <= rank < world_size
        if batch_size < 1 or accumulate < 1 or batch_size % (world_size * accumulate):
            raise ConfigError(
                f"SOLVER.BATCH_SIZE {batch_size} must be a multiple of {world_size} processes x "
                f"SOLVER.ACCUMULATE {accumulate}"
            )
        self._length = length
        self._batch_size = batch_size
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._accumulate = accumulate
        self._start = start
        self._shuffle = shuffle
        self._order = (-1, np.zeros(0, np.int64))

    def __iter__(self) -> Iterator[list[SampleKey]]:
        position = self._start
        size = self._batch_size // (self._world_size * self._accumulate)
        while True:
            mine = range(position + self._rank, position + self._batch_size, self._world_size)
            keys = [self.key(place) for place in mine]
            for part in range(self._accumulate):
                yield keys[part * size : (part + 1) * size]
            position += self._batch_size

    def key(self, position: int) -> SampleKey:
        """Return the sample at `position` (from 0) of the whole run."""
        epoch, offset = divmod(position, self._length)
        if not self._shuffle:
            return SampleKey(epoch, offset)
        if self._order[0] != epoch:
            generator = np.random.default_rng([self._seed, epoch])
            self._order = (epoch, generator.permutation(self._length))
        return SampleKey(epoch, int(self._order[1][offset]))
