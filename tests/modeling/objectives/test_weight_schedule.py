from __future__ import annotations

import pytest

from unsam.modeling.objectives import WeightSchedule

SHARES = [index / 20 for index in range(21)]


def test_a_constant_weight_never_changes():
    schedule = WeightSchedule(0.7)
    assert {schedule(share) for share in SHARES} == {0.7}


def test_a_linear_ramp_goes_from_zero_to_the_weight():
    schedule = WeightSchedule(2.0, "linear", 0.2, 0.6)
    assert [schedule(share) for share in (0.0, 0.2, 0.3, 0.4, 0.6, 1.0)] == pytest.approx(
        [0.0, 0.0, 0.5, 1.0, 2.0, 2.0]
    )


def test_a_cosine_fade_goes_from_the_weight_to_zero():
    schedule = WeightSchedule(2.0, "cosine", 0.2, 0.6)
    values = [schedule(share) for share in SHARES]
    assert values[0] == schedule(0.2) == 2.0
    assert schedule(0.4) == pytest.approx(1.0)
    assert schedule(0.6) == schedule(1.0) == pytest.approx(0.0)
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(("kind", "before", "after"), [("linear", 0.0, 3.0), ("cosine", 3.0, 0.0)])
def test_a_schedule_without_length_is_a_step(kind, before, after):
    schedule = WeightSchedule(3.0, kind, 0.5, 0.5)
    assert schedule(0.49) == before
    assert schedule(0.5) == pytest.approx(after)


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [("square", 0.0, 1.0), ("linear", 0.6, 0.4), ("linear", -0.1, 1.0), ("cosine", 0.0, 1.1)],
)
def test_a_broken_schedule_is_refused_in_one_line(kind, start, end):
    with pytest.raises(ValueError) as caught:
        WeightSchedule(1.0, kind, start, end)
    assert "\n" not in str(caught.value)
