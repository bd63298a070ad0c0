"""Measuring segmenters: evaluators, classical baselines, and the loop that joins them."""

from unsam.evaluation.average_recall import AverageRecallEvaluator
from unsam.evaluation.baselines import Felzenszwalb, Otsu, Slic
from unsam.evaluation.build import EVALUATORS, SEGMENTERS, build_evaluator, build_segmenter
from unsam.evaluation.evaluation_loop import evaluate, evaluate_dataset
from unsam.evaluation.evaluator import Evaluator
from unsam.evaluation.interactive import InteractiveEvaluator
from unsam.evaluation.results import format_results, format_table, write_results
from unsam.evaluation.stored_masks import StoredMasks

__all__ = [
    "EVALUATORS",
    "SEGMENTERS",
    "AverageRecallEvaluator",
    "Evaluator",
    "Felzenszwalb",
    "InteractiveEvaluator",
    "Otsu",
    "Slic",
    "StoredMasks",
    "build_evaluator",
    "build_segmenter",
    "evaluate",
    "evaluate_dataset",
    "format_results",
    "format_table",
    "write_results",
]
