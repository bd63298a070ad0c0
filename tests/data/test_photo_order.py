"""Several datasets as one sequence: in proportion, each in passes, from any position."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsam.data.photo_order import PhotoOrder
from unsam.errors import ConfigError

mixtures = st.lists(
    st.tuples(st.integers(1, 6), st.floats(0.01, 10.0)), min_size=1, max_size=4
).map(lambda pairs: ([length for length, _ in pairs], [weight for _, weight in pairs]))


@given(mixture=mixtures, seed=st.integers(0, 99), start=st.integers(0, 10**9))
def test_every_stretch_is_mixed_by_the_weights(
    mixture: tuple[list[int], list[float]], seed: int, start: int
) -> None:
    lengths, weights = mixture
    order = PhotoOrder(lengths, seed=seed, weights=weights)
    counts: Counter[int] = Counter()
    for seen in range(1, 200):
        counts[order.turn(start + seen - 1).dataset] += 1
        for dataset, weight in enumerate(weights):
            assert abs(counts[dataset] - seen * weight / sum(weights)) < 5


@given(mixture=mixtures, seed=st.integers(0, 99))
def test_earlier_turns_are_known_without_counting(
    mixture: tuple[list[int], list[float]], seed: int
) -> None:
    order = PhotoOrder(mixture[0], seed=seed, weights=mixture[1])
    counts: Counter[int] = Counter()
    for position in range(300):
        dataset, earlier = order.turn(position)
        assert earlier == counts[dataset]
        counts[dataset] += 1


@given(mixture=mixtures, seed=st.integers(0, 99))
def test_each_dataset_goes_through_its_photos_pass_by_pass(
    mixture: tuple[list[int], list[float]], seed: int
) -> None:
    lengths, weights = mixture
    order = PhotoOrder(lengths, seed=seed, weights=weights)
    keys = [order.key(position) for position in range(300)]
    # Any position answers alone as it does in line.
    assert PhotoOrder(lengths, seed=seed, weights=weights).key(123) == keys[123]
    for dataset, length in enumerate(lengths):
        first = sum(lengths[:dataset])
        own = [key for key in keys if first <= key.photo < first + length]
        for begin in range(0, len(own) - length + 1, length):
            one_pass = own[begin : begin + length]
            assert {key.epoch for key in one_pass} == {begin // length}
            assert sorted(key.photo for key in one_pass) == list(range(first, first + length))


def test_without_weights_every_photo_counts_alike() -> None:
    joined, single = PhotoOrder([3, 9], seed=1), PhotoOrder([12], seed=1)
    assert [joined.key(p) for p in range(40)] == [single.key(p) for p in range(40)]


def test_passes_and_seeds_differ() -> None:
    def photos(seed: int, epoch: int) -> tuple[int, ...]:
        order = PhotoOrder([50], seed=seed)
        return tuple(order.key(50 * epoch + place).photo for place in range(50))

    assert photos(1, 0) == photos(1, 0)
    assert len({photos(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], ["a", 1]])
def test_weights_that_fit_no_mixture(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"DATASETS\.WEIGHTS is one number over 0 for each of"):
        PhotoOrder([2, 3], seed=0, weights=weights)


@pytest.mark.parametrize("lengths", [[], [0], [3, 0]])
def test_no_photo(lengths: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN holds no photo"):
        PhotoOrder(lengths, seed=0)
