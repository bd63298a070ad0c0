"""Boundaries: one-to-one correspondence, the BSDS500 protocol, Boundary IoU."""

from unsam.evaluation.boundaries.boundary_evaluator import BoundaryEvaluator
from unsam.evaluation.boundaries.boundary_iou import boundary_bands, boundary_iou
from unsam.evaluation.boundaries.boundary_scores import boundary_counts
from unsam.evaluation.boundaries.correspondence import corresponding_pixels

__all__ = [
    "BoundaryEvaluator",
    "boundary_bands",
    "boundary_counts",
    "boundary_iou",
    "corresponding_pixels",
]
