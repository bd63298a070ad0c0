"""Partitions of a photo: region covering, probabilistic Rand index, variation of information."""

from unsam.evaluation.partitions.annotators import annotator_partitions, arrangement
from unsam.evaluation.partitions.levels import granularity_partitions, ucm_partitions
from unsam.evaluation.partitions.region_evaluator import RegionEvaluator
from unsam.evaluation.partitions.region_scores import region_scores, score_partitions

__all__ = [
    "RegionEvaluator",
    "annotator_partitions",
    "arrangement",
    "granularity_partitions",
    "region_scores",
    "score_partitions",
    "ucm_partitions",
]
