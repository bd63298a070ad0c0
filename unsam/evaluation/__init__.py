"""Measuring segmenters: evaluators, classical baselines, and the loop that joins them."""

from unsam.evaluation.average_recall import AverageRecallEvaluator, BoundaryAPEvaluator
from unsam.evaluation.baselines import AdaptiveOtsu, Felzenszwalb, MultiOtsu, Otsu, Slic
from unsam.evaluation.boundaries import BoundaryEvaluator, boundary_iou
from unsam.evaluation.build import EVALUATORS, SEGMENTERS, build_evaluator, build_segmenter
from unsam.evaluation.contour_baselines import ContourTree, Watershed
from unsam.evaluation.evaluation_loop import evaluate, evaluate_dataset
from unsam.evaluation.evaluator import Evaluator
from unsam.evaluation.granularity_evaluator import GranularityEvaluator
from unsam.evaluation.interactive import InteractiveEvaluator
from unsam.evaluation.mean_iou import MeanIoUEvaluator
from unsam.evaluation.partitions import RegionEvaluator
from unsam.evaluation.point_evaluator import PointEvaluator
from unsam.evaluation.predictions import StoredPredictions
from unsam.evaluation.results import format_results, format_table, write_results
from unsam.evaluation.stored_masks import StoredMasks

__all__ = [
    "EVALUATORS",
    "SEGMENTERS",
    "AdaptiveOtsu",
    "AverageRecallEvaluator",
    "BoundaryAPEvaluator",
    "BoundaryEvaluator",
    "ContourTree",
    "Evaluator",
    "Felzenszwalb",
    "GranularityEvaluator",
    "InteractiveEvaluator",
    "MeanIoUEvaluator",
    "MultiOtsu",
    "Otsu",
    "PointEvaluator",
    "RegionEvaluator",
    "Slic",
    "StoredMasks",
    "StoredPredictions",
    "Watershed",
    "boundary_iou",
    "build_evaluator",
    "build_segmenter",
    "evaluate",
    "evaluate_dataset",
    "format_results",
    "format_table",
    "write_results",
]
