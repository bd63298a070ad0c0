from __future__ import annotations

import torch

from unsam.modeling.sample_random import SampleRandom


def test_a_sample_draws_the_same_whatever_else_is_in_the_batch() -> None:
    together = SampleRandom([5, 6, 7]).uniform([2, 3, 1], 4)
    assert together.shape == (6, 4)
    assert torch.equal(together[2:5], SampleRandom([6]).uniform([3], 4))
    normal = SampleRandom([5, 6]).normal([1, 2], 2)
    assert torch.equal(normal[1:], SampleRandom([6]).normal([2], 2))


def test_purposes_have_streams_of_their_own() -> None:
    first, second = SampleRandom([5]), SampleRandom([5])
    first.fork("other").uniform([1000])
    assert torch.equal(first.fork("clicks").uniform([3]), second.fork("clicks").uniform([3]))
    assert not torch.equal(first.fork("clicks").uniform([3]), first.fork("views").uniform([3]))


def test_one_sample_goes_on_where_it_is() -> None:
    random, same = SampleRandom([5, 6]), SampleRandom([5, 6])
    random.of(1).uniform([2])
    same.uniform([0, 2])
    assert torch.equal(random.uniform([0, 1]), same.uniform([0, 1]))


def test_samples_without_a_seed_follow_the_global_generator() -> None:
    torch.manual_seed(3)
    first = SampleRandom.from_batch([{"seed": 9}, {}]).uniform([1, 1])
    torch.manual_seed(3)
    assert torch.equal(first, SampleRandom.from_batch([{"seed": 9}, {}]).uniform([1, 1]))
    assert torch.equal(first[:1], SampleRandom([9]).uniform([1]))
    assert len(SampleRandom([])) == 0
    assert SampleRandom([]).uniform([], 2).shape == (0, 2)
