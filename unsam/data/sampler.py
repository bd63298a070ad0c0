"""The order of the samples, dealt out to the ranks and micro-batches of each step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from unsam.errors import ConfigError


class SampleKey(NamedTuple):
    """One sample of the run: photo number `photo` as seen in pass `epoch`."""

    epoch: int
    photo: int


class Order(Protocol):
    """A sequence of samples, such as `unsam.data.photo_order.PhotoOrder`."""

    def key(self, position: int) -> SampleKey:
        """Return the sample at `position` (from 0) of the whole run."""


class ResumableSampler:
    """Endless micro-batches of one rank, from any position, for any number of ranks.

    Optimizer step s takes samples ``[s * batch_size, (s + 1) * batch_size)`` of the order. They are
    cut into ``world_size * accumulate`` micro-batches, which are dealt out to the ranks in turn. So
    the samples of a step are the same whatever the number of ranks, and nothing is lost or repeated
    when a run goes on from ``start`` with another number; and four parts on one rank are the same
    micro-batches, with the same numbers, as two parts on each of two.

    Args:
        order: the samples of the whole run, one after the other.
        batch_size: samples of one optimizer step, over all ranks and micro-batches.
        rank: this process, in [0, world_size).
        world_size: number of processes.
        accumulate: micro-batches that one step is cut into on each rank.
        start: samples of the run seen before, over all ranks.

    Raises:
        ConfigError: batch_size cannot be dealt out evenly.
    """

    def __init__(
        self,
        order: Order,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        start: int = 0,
    ) -> None:
        assert 0 <= rank < world_size
        if batch_size < 1 or accumulate < 1 or batch_size % (world_size * accumulate):
            raise ConfigError(
                f"SOLVER.BATCH_SIZE {batch_size} must be a multiple of {world_size} processes x "
                f"SOLVER.ACCUMULATE {accumulate}"
            )
        self._order = order
        self._batch_size = batch_size
        self._rank = rank
        self._world_size = world_size
        self._accumulate = accumulate
        self._start = start

    def __iter__(self) -> Iterator[list[SampleKey]]:
        position = self._start
        size = self._batch_size // (self._world_size * self._accumulate)
        while True:
            for part in range(self._accumulate):
                first = position + (part * self._world_size + self._rank) * size
                yield [self._order.key(place) for place in range(first, first + size)]
            position += self._batch_size
