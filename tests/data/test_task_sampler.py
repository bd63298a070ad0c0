"""The adaptive task sampler: its chances, what it learns, and when that takes effect."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from unsam.config import get_cfg
from unsam.data.photo_order import PhotoOrder
from unsam.data.task_sampler import AdaptiveOrder, AdaptiveTaskSampler, Records
from unsam.errors import CheckpointError, ConfigError

PERIOD = 5


def make_tasks(num_photos: int = 4, **options: Any) -> AdaptiveTaskSampler:
    defaults = {"start": 0.5, "floor": 0.2, "momentum": 0.5, "refresh_period": PERIOD}
    return AdaptiveTaskSampler(num_photos, 3, **{**defaults, **options})


def records(*rows: tuple[float, float, float, float]) -> Records:
    return np.array(rows, np.float64).reshape(-1, 4)


def train(tasks: AdaptiveTaskSampler, until: int, max_iter: int = 20) -> None:
    """Take steps in which photo p, band p and prompt kind p have the error p / 4."""
    while tasks.iteration < until:
        step = tasks.iteration
        photo = step % 4
        row = (photo, 0.15 + 0.1 * photo, min(photo, 2), photo / 4)
        tasks.end_step([records(row)], step + 1, (step + 1) / max_iter)


def chances(tasks: AdaptiveTaskSampler, step: int, first: int = 0, count: int = 4) -> np.ndarray:
    """The chances of photos, read off even steps through the unit interval."""
    drawn = [tasks.draw_photo(step, first, count, (place + 0.5) / 4000) for place in range(4000)]
    return np.bincount(np.array(drawn), minlength=first + count)[first:] / 4000


def test_chances_mix_an_even_share_with_the_powers_of_the_difficulties() -> None:
    tasks = make_tasks(temperature=0.5, floor=0.2)
    train(tasks, 10)
    powers = np.array([0.0, 0.25, 0.5, 0.75]) ** 2
    expected = 0.2 / 4 + 0.8 * powers / powers.sum()
    np.testing.assert_allclose(chances(tasks, 15), expected, atol=1e-3)


def test_no_chance_falls_below_the_floor_in_any_dataset() -> None:
    tasks = make_tasks(floor=0.4)
    train(tasks, 10)
    for first, count in ((0, 4), (0, 2), (2, 2), (0, 1)):
        assert chances(tasks, 15, first, count).min() >= 0.4 / count - 1e-3


def test_what_never_came_up_counts_as_the_others_do_on_average() -> None:
    tasks = make_tasks(num_photos=5, floor=1e-6)
    train(tasks, 10)
    difficulties = np.array([0.0, 0.25, 0.5, 0.75, 0.375])
    np.testing.assert_allclose(
        chances(tasks, 15, count=5), difficulties / difficulties.sum(), atol=1e-3
    )


@pytest.mark.parametrize("error", [None, 0.0])
def test_without_errors_all_are_alike(error: float | None) -> None:
    tasks = make_tasks(start=0.0)
    rows = [] if error is None else [(photo, 0.5, 0, error) for photo in range(4)]
    tasks.end_step([records(*rows)], PERIOD, 0.5)
    np.testing.assert_allclose(chances(tasks, 2 * PERIOD), np.full(4, 0.25), atol=1e-3)


def test_difficulty_is_a_moving_average_of_the_mean_error_of_a_step() -> None:
    tasks = make_tasks(momentum=0.75)
    tasks.end_step([records((1, 0.5, 2, 0.2), (1, 0.9, 2, 0.6))], 1, 0.0)
    tasks.end_step([records((1, 0.5, 0, 0.8))], 2, 0.0)
    state = tasks.state_dict()["difficulty"]
    assert state["photos"].tolist() == pytest.approx([-1, 0.75 * 0.4 + 0.25 * 0.8, -1, -1])
    assert state["granularities"][4].item() == pytest.approx(0.75 * 0.2 + 0.25 * 0.8)
    assert state["granularities"][8].item() == pytest.approx(0.6)
    assert state["prompts"].tolist() == pytest.approx([0.8, -1, 0.4])


def test_errors_count_the_same_whichever_rank_saw_them() -> None:
    generator = np.random.default_rng(0)
    rows = np.stack(
        (
            generator.integers(0, 4, 50),
            generator.uniform(0.1, 1, 50),
            generator.integers(0, 3, 50),
            generator.uniform(0, 1, 50),
        ),
        axis=1,
    )
    states = []
    for parts in ([rows], [rows[1::2], rows[::2]], [rows[40:], rows[:0], rows[:40]]):
        tasks = make_tasks()
        tasks.end_step(parts, 1, 0.0)
        states.append(tasks.state_dict()["difficulty"])
    for other in states[1:]:
        assert all(torch.equal(states[0][axis], other[axis]) for axis in other)


def test_nothing_changes_before_the_start_and_then_a_period_after_the_freeze() -> None:
    tasks = make_tasks(start=0.5)
    train(tasks, 9)
    assert all(tasks.draw_photo(step, 0, 4, 0.5) is None for step in range(15))
    assert tasks.mask_weights(torch.tensor([0.2])) is None
    train(tasks, 10)
    assert tasks.draw_photo(14, 0, 4, 0.5) is None
    assert tasks.draw_photo(15, 0, 4, 0.5) is not None
    assert tasks.prompt_weights() is None
    train(tasks, 15)
    weights = tasks.prompt_weights()
    assert weights is not None
    assert weights.mean().item() == pytest.approx(1.0)
    assert weights[2] > weights[1] > weights[0]


def test_weights_of_masks_follow_their_band() -> None:
    tasks = make_tasks(floor=0.1)
    train(tasks, 15)
    weights = tasks.mask_weights(torch.tensor([0.15, 0.19, 0.35, 0.45]))
    assert weights is not None
    assert weights[0] == weights[1]
    assert weights[0].item() == pytest.approx(0.1)
    assert weights[3] > weights[2] > weights[0]


def test_each_kind_of_task_can_be_left_as_it_is() -> None:
    tasks = make_tasks(photos=False, granularities=False, prompts=False)
    train(tasks, 15)
    assert tasks.draw_photo(15, 0, 4, 0.5) is None
    assert tasks.mask_weights(torch.tensor([0.5])) is None
    assert tasks.prompt_weights() is None


def test_recorded_errors_are_handed_over_once() -> None:
    tasks = make_tasks()
    for photo in (3, 1):
        one = torch.tensor([photo])
        tasks.record(one, torch.tensor([0.5]), one.clamp(max=2), torch.tensor([0.25]))
    assert tasks.take_records().tolist() == [[3, 0.5, 2, 0.25], [1, 0.5, 1, 0.25]]
    assert tasks.take_records().shape == (0, 4)


@pytest.mark.parametrize("stop", [3, 10, 12, 15])
def test_draws_ahead_are_those_of_a_resumed_run(stop: int) -> None:
    """A loader may be a period ahead; where it is when the run stops must not matter."""
    batch = 2
    plain = PhotoOrder([4], seed=0)
    straight = make_tasks()
    order = AdaptiveOrder(plain, straight, batch_size=batch, start=0, seed=7)
    keys, resumed_keys = [], []
    for step in range(20):
        train(straight, max(0, step - PERIOD + 1))  # the loader is nearly a period ahead
        keys.append([order.key(batch * step + place) for place in range(batch)])
    first, second = make_tasks(), make_tasks()
    train(first, stop)
    second.load_state_dict(first.state_dict(), stop)
    order = AdaptiveOrder(plain, second, batch_size=batch, start=batch * stop, seed=7)
    for step in range(stop, 20):
        train(second, step)  # not ahead at all
        resumed_keys.append([order.key(batch * step + place) for place in range(batch)])
    assert resumed_keys == keys[stop:]
    flat = [key for step_keys in keys[15:] for key in step_keys]
    assert len(set(flat)) == len(flat), "no two samples of the adaptive part are alike"


def test_datasets_keep_their_share_while_their_photos_are_drawn_by_difficulty() -> None:
    tasks = make_tasks()
    train(tasks, 10)
    plain = PhotoOrder([2, 2], seed=0, weights=[1, 3])
    order = AdaptiveOrder(plain, tasks, batch_size=100, start=1000, seed=0)
    photos = Counter(order.key(1500 + place).photo for place in range(500))
    assert photos[0] + photos[1] == pytest.approx(125, abs=5)
    assert photos[1] > 2 * photos[0]
    assert photos[3] > photos[2]


def test_a_checkpoint_of_other_photos_is_refused_and_one_without_tasks_is_not() -> None:
    tasks = make_tasks(num_photos=3)
    with pytest.raises(CheckpointError, match=r"knows 4 photos, this run has 3; resume with"):
        tasks.load_state_dict(make_tasks(num_photos=4).state_dict(), 0)
    tasks.load_state_dict({}, 7)
    assert tasks.iteration == 7


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"floor": 0.0}, {"momentum": 1.0}, {"refresh_period": 0}]
)
def test_values_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="TASKS: TEMPERATURE is over 0"):
        make_tasks(**wrong)


def test_the_config_gives_every_option() -> None:
    AdaptiveTaskSampler(2, 3, **AdaptiveTaskSampler.from_config(get_cfg()))
