"""Numbers that a config says an evaluation must give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fvcore.common.config import CfgNode

from unsam.errors import ConfigError, UnsamError
from unsam.evaluation.results import Results


class UnexpectedResultError(UnsamError):
    """An evaluation gave another number than ``TEST.EXPECTED_RESULTS`` says."""


@dataclass(frozen=True)
class ExpectedResult:
    """One number, and by how much it may be missed."""

    dataset: str
    evaluator: str
    metric: str
    value: float
    tolerance: float

    def problem(self, results: Results) -> str:
        """Return what is wrong with the results, "" if nothing is."""
        place = f"{self.dataset} {self.evaluator} {self.metric}"
        expected = f"expected {self.value:g} +- {self.tolerance:g}"
        metrics = results.get(self.dataset, {}).get(self.evaluator, {})
        if self.metric not in metrics:
            return f"{place}: {expected}, but it was not measured"
        measured = metrics[self.metric]
        # Written so that NaN is a problem; a hair of room for decimals that binary cannot hold.
        if abs(measured - self.value) <= self.tolerance + 1e-12:
            return ""
        return f"{place}: {expected}, measured {measured:.6g}"


def expected_results(cfg: CfgNode) -> list[ExpectedResult]:
    """Return the entries of ``TEST.EXPECTED_RESULTS``.

    Raises:
        ConfigError: one is not [dataset, evaluator, metric, value, tolerance].
    """
    return [_expected_result(entry) for entry in cfg.TEST.EXPECTED_RESULTS]


def check_expected_results(expected: Sequence[ExpectedResult], results: Results) -> list[str]:
    """Return one line for each number that is not as expected."""
    return [line for item in expected if (line := item.problem(results))]


def _expected_result(entry: Any) -> ExpectedResult:
    try:
        dataset, evaluator, metric, value, tolerance = entry
        result = ExpectedResult(dataset, evaluator, metric, float(value), float(tolerance))
        if math.isfinite(result.value) and result.tolerance >= 0:
            return result
    except (TypeError, ValueError):
        pass
    raise ConfigError(
        "TEST.EXPECTED_RESULTS has entries [dataset, evaluator, metric, value, tolerance], with a "
        f"finite value and a tolerance of at least 0; got {entry}"
    )
