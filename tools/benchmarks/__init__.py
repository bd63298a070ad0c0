"""The benchmarks of ``tools/benchmark.py``, one module each."""

from benchmarks.conquer import benchmark_conquer
from benchmarks.crf import benchmark_crf
from benchmarks.instance import benchmark_instance
from benchmarks.maskcut import benchmark_maskcut
from benchmarks.masks import benchmark_masks
from benchmarks.throughput import benchmark_throughput

BENCHMARKS = {
    "conquer": benchmark_conquer,
    "crf": benchmark_crf,
    "instance": benchmark_instance,
    "maskcut": benchmark_maskcut,
    "masks": benchmark_masks,
    "throughput": benchmark_throughput,
}
