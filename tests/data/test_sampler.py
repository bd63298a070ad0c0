"""How the sequence of samples is dealt out: one sequence, whoever takes which part of it."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsam.data.photo_order import PhotoOrder
from unsam.data.sampler import ResumableSampler, SampleKey
from unsam.errors import ConfigError


def steps_of(
    order: PhotoOrder, batch: int, world: int, accumulate: int, start: int, steps: int
) -> list[list[SampleKey]]:
    """The samples of each step, over all ranks and micro-batches."""
    per_rank = [
        list(
            islice(
                ResumableSampler(
                    order, batch, rank=rank, world_size=world, accumulate=accumulate, start=start
                ),
                steps * accumulate,
            )
        )
        for rank in range(world)
    ]
    return [
        [
            key
            for micro_batches in per_rank
            for micro in micro_batches[step * accumulate : (step + 1) * accumulate]
            for key in micro
        ]
        for step in range(steps)
    ]


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    mixed=st.booleans(),
    world=st.integers(1, 4),
    accumulate=st.integers(1, 3),
    size=st.integers(1, 3),
    stop=st.integers(0, 6),
)
def test_a_step_has_the_same_samples_for_any_number_of_ranks_and_after_a_resume(
    lengths: list[int], mixed: bool, world: int, accumulate: int, size: int, stop: int
) -> None:
    weights = [3.0, 0.7, 1.0][: len(lengths)] if mixed else []
    order = PhotoOrder(lengths, seed=3, weights=weights)
    batch = world * accumulate * size
    alone = steps_of(order, batch, 1, 1, 0, 8)
    shared = steps_of(order, batch, world, accumulate, 0, stop)
    shared += steps_of(order, batch, 1, 1, stop * batch, 8 - stop)
    assert [sorted(step) for step in shared] == [sorted(step) for step in alone]


@pytest.mark.parametrize(("world", "accumulate"), [(1, 4), (2, 2), (4, 1)])
def test_micro_batches_are_the_same_however_many_ranks_share_them(
    world: int, accumulate: int
) -> None:
    order = PhotoOrder([30], seed=3)
    samplers = [
        iter(ResumableSampler(order, 12, rank=rank, world_size=world, accumulate=accumulate))
        for rank in range(world)
    ]
    # Part by part, the ranks in turn: the numbers by which the trainer seeds them.
    dealt = [next(sampler) for _ in range(2 * accumulate) for sampler in samplers]
    keys = [order.key(position) for position in range(24)]
    assert dealt == [keys[first : first + 3] for first in range(0, 24, 3)]


@given(length=st.integers(1, 30), batch=st.integers(1, 7))
def test_every_pass_has_every_photo_once(length: int, batch: int) -> None:
    steps = steps_of(PhotoOrder([length], seed=3), batch, 1, 1, 0, 3 * length)
    flat = [key for step in steps for key in step][: 3 * length]
    assert Counter(flat) == Counter(SampleKey(e, p) for e in range(3) for p in range(length))


@pytest.mark.parametrize(("batch", "world", "accumulate"), [(3, 2, 1), (4, 2, 4), (0, 1, 1)])
def test_batch_that_cannot_be_dealt_out(batch: int, world: int, accumulate: int) -> None:
    with pytest.raises(ConfigError, match=r"SOLVER\.BATCH_SIZE"):
        ResumableSampler(PhotoOrder([9], seed=0), batch, world_size=world, accumulate=accumulate)
