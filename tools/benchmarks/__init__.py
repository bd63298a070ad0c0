"""The benchmarks of ``tools/benchmark.py``, one module each."""

from benchmarks.masks import benchmark_masks

BENCHMARKS = {"masks": benchmark_masks}
