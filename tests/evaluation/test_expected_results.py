from __future__ import annotations

import math
from typing import Any

import pytest

from unsam.config import load_config
from unsam.errors import ConfigError
from unsam.evaluation.expected_results import (
    ExpectedResult,
    check_expected_results,
    expected_results,
)

RESULTS = {"photos": {"Recall": {"AR@1": 0.3, "ARs": math.nan}}}


@pytest.mark.parametrize(
    ("metric", "value", "tolerance", "line"),
    [
        ("AR@1", 0.3, 0.0, ""),
        ("AR@1", 0.2, 0.1, ""),
        ("AR@1", 0.4, 0.1, ""),
        ("AR@1", 0.41, 0.1, "photos Recall AR@1: expected 0.41 +- 0.1, measured 0.3"),
        ("AR@1", 0.19, 0.1, "photos Recall AR@1: expected 0.19 +- 0.1, measured 0.3"),
        ("ARs", 0.5, 1.0, "photos Recall ARs: expected 0.5 +- 1, measured nan"),
        ("AP", 0.5, 1.0, "photos Recall AP: expected 0.5 +- 1, but it was not measured"),
    ],
)
def test_a_number_outside_its_tolerance_is_one_line(
    metric: str, value: float, tolerance: float, line: str
) -> None:
    expected = [ExpectedResult("photos", "Recall", metric, value, tolerance)]
    assert check_expected_results(expected, RESULTS) == ([line] if line else [])


def test_datasets_and_evaluators_that_were_not_run_are_problems_too() -> None:
    cfg = load_config(
        None,
        ["TEST.EXPECTED_RESULTS", "[['a', 'Recall', 'AP', 1, 0], ['photos', 'B', 'AP', 1, 0]]"],
    )
    lines = check_expected_results(expected_results(cfg), RESULTS)
    assert [line.split(":")[0] for line in lines] == ["a Recall AP", "photos B AP"]


@pytest.mark.parametrize(
    "entry", ["'photos'", "('a', 'b', 'c', 1.0)", "('a', 'b', 'c', 'x', 0.1)", "('a','b','c',1,-1)"]
)
def test_entries_of_another_form_are_refused(entry: Any) -> None:
    cfg = load_config(None, ["TEST.EXPECTED_RESULTS", f"[{entry}]"])
    with pytest.raises(
        ConfigError, match=r"TEST\.EXPECTED_RESULTS has entries \[dataset"
    ) as caught:
        expected_results(cfg)
    assert "\n" not in str(caught.value)
