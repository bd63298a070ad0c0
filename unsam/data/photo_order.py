"""Which photo comes when: a function of the seed and of the position in the run alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unsam.data.sampler import SampleKey
from unsam.errors import ConfigError

# Positions times this stride, modulo the period, fall evenly into any interval over any stretch of
# positions: the stride is the golden section of the period (Knuth, TAOCP 3, section 6.4).
_PERIOD = 1 << 32
_STRIDE = 2654435769


class Turn(NamedTuple):
    """Whose turn it is: of dataset `dataset`, after `earlier` of its turns."""

    dataset: int
    earlier: int


class PhotoOrder:
    """An endless sequence of photos from one or several datasets.

    Each dataset is gone through pass by pass, in an order that depends on the seed, the pass and
    the dataset alone: none of its photos comes again before all have come. With `weights` the
    datasets take turns, evenly mixed: the number of turns that a dataset had is never more than a
    few off its share, and known for any position without counting up to it.

    Args:
        lengths: photos of each dataset; photos are numbered through all of them.
        seed: seed of the order.
        weights: how often each dataset has a turn, relative to the others; empty puts the photos
            of all datasets into one.

    Raises:
        ConfigError: no photo, or weights that are not one number over 0 per dataset.
    """

    def __init__(self, lengths: Sequence[int], *, seed: int, weights: Sequence[float] = ()) -> None:
        if not lengths or min(lengths) < 1:
            raise ConfigError(
                "DATASETS.TRAIN holds no photo; name a folder of pseudo masks "
                "(unsam pseudo-masks makes one), a data set or a COCO-style JSON file"
            )
        fine = all(isinstance(weight, int | float) and 0 < weight < np.inf for weight in weights)
        if not fine or len(weights) not in (0, len(lengths)):
            raise ConfigError(
                f"DATASETS.WEIGHTS is one number over 0 for each of the {len(lengths)} entries of "
                f"DATASETS.TRAIN, got {list(weights)}"
            )
        self.lengths = list(lengths) if weights else [sum(lengths)]
        self.firsts = [sum(self.lengths[:number]) for number in range(len(self.lengths))]
        shares = np.cumsum(weights or [1.0]) / np.sum(weights or [1.0])
        self._bounds = [0, *(round(share * _PERIOD) for share in shares.tolist())]
        self._seed = seed
        self._offset = int(np.random.default_rng(seed).integers(_PERIOD))
        self._passes: dict[int, tuple[int, np.ndarray]] = {}

    def turn(self, position: int) -> Turn:
        """Return whose turn it is at `position`, from 0."""
        place = (position * _STRIDE + self._offset) % _PERIOD
        dataset = int(np.searchsorted(self._bounds, place, side="right")) - 1
        earlier = self._turns_below(self._bounds[dataset + 1], position) - self._turns_below(
            self._bounds[dataset], position
        )
        return Turn(dataset, earlier)

    def key(self, position: int) -> SampleKey:
        """Return the sample at `position`, from 0."""
        dataset, earlier = self.turn(position)
        epoch, offset = divmod(earlier, self.lengths[dataset])
        if self._passes.get(dataset, (-1,))[0] != epoch:
            generator = np.random.default_rng([self._seed, epoch, dataset])
            self._passes[dataset] = (epoch, generator.permutation(self.lengths[dataset]))
        return SampleKey(epoch, self.firsts[dataset] + int(self._passes[dataset][1][offset]))

    def _turns_below(self, bound: int, position: int) -> int:
        """Return how many earlier positions fall below `bound`."""
        return _sum_of_floors(position, _PERIOD, _STRIDE, self._offset) - _sum_of_floors(
            position, _PERIOD, _STRIDE, self._offset - bound
        )


def _sum_of_floors(count: int, divisor: int, slope: int, start: int) -> int:
    """Return the sum of ``(slope * i + start) // divisor`` over i from 0 to ``count - 1``.

    Euclid's algorithm on lattice points below a line (Graham, Knuth and Patashnik, Concrete
    Mathematics, section 3.5): logarithmically many steps.
    """
    total = 0
    while count > 0:
        total += (slope // divisor) * (count * (count - 1) // 2) + (start // divisor) * count
        slope, start = slope % divisor, start % divisor
        # What is left has a slope below one: count its steps along the other axis.
        count, start = divmod(slope * count + start, divisor)
        slope, divisor = divisor, slope
    return total
