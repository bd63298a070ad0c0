"""Defaults of how segmenters are measured."""

from __future__ import annotations

from fvcore.common.config import CfgNode


def evaluation_defaults() -> CfgNode:
    """Return the defaults of ``EVALUATION``."""
    node = CfgNode()
    # "model", or a segmenter that needs no training: Otsu, AdaptiveOtsu, MultiOtsu, Felzenszwalb,
    # Slic, Watershed, ContourTree, StoredMasks, StoredPredictions.
    node.SEGMENTER = "model"
    # For StoredMasks: the dataset whose masks are evaluated, such as a folder of pseudo masks.
    node.STORED_MASKS = ""
    # For StoredPredictions: a COCO results file, a list of {image_id, segmentation, score}.
    node.PREDICTIONS = ""
    # Whether photos that have no prediction in that file count as photos without masks; else they
    # are an error, since a results file cannot tell such photos from those never segmented.
    node.ALLOW_PARTIAL = False
    # Of whole-image masks: AverageRecallEvaluator, GranularityEvaluator, BoundaryEvaluator and
    # RegionEvaluator (both need all regions: bsds500_val_all, not _distinct); of answers to clicks
    # (models and StoredMasks): InteractiveEvaluator, PointEvaluator.
    node.EVALUATORS = ("AverageRecallEvaluator",)
    # Only the first so many photos of each test set; 0 takes all.
    node.MAX_IMAGES = 0
    # Go on from the results of photos in OUTPUT_DIR if they are of this model and config.
    node.RESUME = True
    # Photos in report.html: so many of the worst and of the best; 0 writes no report.
    node.REPORT_PHOTOS = 4
    # Granularities of the whole-image masks; empty leaves the choice to the segmenter.
    node.GRANULARITY = ()
    # Limits on the masks per photo, ascending; AP and the numbers by size are at the last.
    node.MAX_DETECTIONS = (1, 10, 100, 1000)
    _add_questions(node)
    # BoundaryEvaluator: thresholds, evenly from 0.01 to 0.99, and the largest distance of matching
    # boundary pixels as a share of the diagonal; BSDS500 takes 99 and 0.0075.
    node.BOUNDARIES = CfgNode()
    node.BOUNDARIES.NUM_THRESHOLDS = 99
    node.BOUNDARIES.TOLERANCE = 0.0075
    # RegionEvaluator: the granularities at which the masks of a photo are one partition each.
    node.REGIONS = CfgNode()
    node.REGIONS.GRANULARITIES = tuple(round(0.1 + 0.05 * step, 2) for step in range(19))
    node.BASELINES = CfgNode()
    # Most masks per photo; the largest are kept.
    node.BASELINES.MAX_MASKS = 1000
    node.BASELINES.FELZENSZWALB_SCALES = (30.0, 60.0, 120.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0)
    # Width of the smoothing before, in pixels, and the smallest region, in pixels.
    node.BASELINES.FELZENSZWALB_SIGMA = 0.8
    node.BASELINES.FELZENSZWALB_MIN_SIZE = 50
    node.BASELINES.SLIC_SEGMENTS = (5, 10, 20, 40, 80, 160, 320)
    # Weight of distance against colour.
    node.BASELINES.SLIC_COMPACTNESS = 10.0
    # Widths in pixels of the squares that AdaptiveOtsu takes its thresholds from.
    node.BASELINES.ADAPTIVE_OTSU_WINDOWS = (25, 75, 225)
    # All choices of thresholds are tried: from 5 classes on this takes seconds per photo.
    node.BASELINES.MULTI_OTSU_CLASSES = (2, 3, 4)
    # Watershed, ContourTree: smoothing before the gradient, standard deviation in pixels.
    node.BASELINES.GRADIENT_SIGMA = 1.5
    # Basins of the gradient that are less deep are filled; 1 is a step from black to white.
    node.BASELINES.WATERSHED_DEPTHS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
    node.BASELINES.CONTOUR_TREE_DEPTH = 0.01
    return node


def _add_questions(node: CfgNode) -> None:
    """Add the defaults of the evaluators that ask the segmenter."""
    node.INTERACTIVE = CfgNode()
    # Each of these gets numbers of its own (noc80@g0.3, ...).
    node.INTERACTIVE.GRANULARITIES = (0.3, 0.5, 1.0)
    # What the @predicted numbers (by the model's confidence in its first answer) and the oracle_
    # numbers (the best for each object, which looks at the truth) choose from.
    node.INTERACTIVE.ORACLE_GRANULARITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    # IoUs to reach; clicking stops at the largest.
    node.INTERACTIVE.TARGETS = (0.8, 0.85, 0.9)
    node.INTERACTIVE.MAX_CLICKS = 20
    # Objects per photo, 0 for all; chosen by a hash of the mask and SEED, not by order.
    node.INTERACTIVE.MAX_OBJECTS = 10
    node.INTERACTIVE.SEED = 0
    # Smaller objects, in pixels, are left out.
    node.INTERACTIVE.MIN_AREA = 100
    # Prompts per call of the mask decoder.
    node.INTERACTIVE.BATCH_SIZE = 64
    node.POINT = CfgNode()
    # Of the answers to each click; models without granularity give all that they have.
    node.POINT.GRANULARITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    # Prompts per call of the mask decoder.
    node.POINT.BATCH_SIZE = 64
    node.GRANULARITY_SWEEP = CfgNode()
    # Asked for one by one; each segments the photo once more.
    node.GRANULARITY_SWEEP.GRANULARITIES = (0.1, 0.3, 0.6, 1.0)
    # On the first so many photos, 0 for all.
    node.GRANULARITY_SWEEP.PHOTOS = 100
    # Rows and columns of the grid of clicks for the nesting violation; 0 leaves it out.
    node.GRANULARITY_SWEEP.CLICKS_PER_SIDE = 8
    # Prompts per call of the mask decoder.
    node.GRANULARITY_SWEEP.BATCH_SIZE = 64


def expectation_defaults() -> CfgNode:
    """Return the defaults of ``TEST``."""
    node = CfgNode()
    # Entries [dataset, evaluator, metric, value, tolerance]; an evaluation that measures anything
    # else than value, give or take tolerance, says so and fails.
    node.EXPECTED_RESULTS = ()
    return node
