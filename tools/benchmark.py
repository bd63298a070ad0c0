"""Measure, side by side in one run: ``python tools/benchmark.py NAME [--json]``.

Each benchmark prints a table, or with --json one object with every figure. Times are medians, in
seconds unless the name says otherwise; the figures kept in docs/benchmarks.md come from here.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

Figures = dict[str, Any]


def median_seconds(function: Callable[[], Any], repeats: int = 5, warm_up: int = 1) -> float:
    """Return the median wall time of `function` in seconds, after `warm_up` runs not counted."""
    for _ in range(warm_up):
        function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Run one benchmark on one core and print its figures."""
    from benchmarks import BENCHMARKS

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    figures = BENCHMARKS[arguments.name]()
    if arguments.json:
        print(json.dumps(figures))
        return
    width = max(len(key) for key in figures)
    for key, value in figures.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"{key:<{width}}  {shown}")


if __name__ == "__main__":
    # The bars are for one core; libraries read these when they are first imported.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    main()
