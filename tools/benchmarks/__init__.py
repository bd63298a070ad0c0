"""The benchmarks of ``tools/benchmark.py``, one module each."""

from benchmarks.boundaries import benchmark_boundaries
from benchmarks.conquer import benchmark_conquer
from benchmarks.crf import benchmark_crf
from benchmarks.deformable_attention import benchmark_deformable_attention
from benchmarks.eval import benchmark_eval
from benchmarks.instance import benchmark_instance
from benchmarks.loader import benchmark_loader
from benchmarks.maskcut import benchmark_maskcut
from benchmarks.masks import benchmark_masks
from benchmarks.matching import benchmark_matching
from benchmarks.models import benchmark_models
from benchmarks.pseudo_masks import benchmark_pseudo_masks
from benchmarks.stages import benchmark_stages
from benchmarks.throughput import benchmark_throughput

BENCHMARKS = {
    "boundaries": benchmark_boundaries,
    "conquer": benchmark_conquer,
    "crf": benchmark_crf,
    "deformable_attention": benchmark_deformable_attention,
    "eval": benchmark_eval,
    "instance": benchmark_instance,
    "loader": benchmark_loader,
    "maskcut": benchmark_maskcut,
    "masks": benchmark_masks,
    "matching": benchmark_matching,
    "models": benchmark_models,
    "pseudo_masks": benchmark_pseudo_masks,
    "stages": benchmark_stages,
    "throughput": benchmark_throughput,
}
