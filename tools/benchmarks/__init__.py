"""The benchmarks of ``tools/benchmark.py``, one module each."""

from benchmarks.conquer import benchmark_conquer
from benchmarks.masks import benchmark_masks

BENCHMARKS = {"conquer": benchmark_conquer, "masks": benchmark_masks}
