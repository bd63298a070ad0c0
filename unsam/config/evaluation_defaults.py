"""Defaults of how segmenters are measured."""

from __future__ import annotations

from fvcore.common.config import CfgNode


def evaluation_defaults() -> CfgNode:
    """Return the defaults of ``EVALUATION``."""
    node = CfgNode()
    # "model", or a segmenter that needs no training: Otsu, Felzenszwalb, Slic, StoredMasks.
    node.SEGMENTER = "model"
    # For StoredMasks: the dataset whose masks are evaluated, such as a folder of pseudo masks.
    node.STORED_MASKS = ""
    # AverageRecallEvaluator (whole image), InteractiveEvaluator (clicks; models and StoredMasks).
    node.EVALUATORS = ("AverageRecallEvaluator",)
    # Only the first so many photos of each test set; 0 takes all.
    node.MAX_IMAGES = 0
    # Granularities of the whole-image masks; empty leaves the choice to the segmenter.
    node.GRANULARITY = ()
    # Limits on the masks per photo, ascending; AP and the numbers by size are at the last.
    node.MAX_DETECTIONS = (1, 10, 100, 1000)
    node.INTERACTIVE = CfgNode()
    # Each of these gets numbers of its own (noc80@g0.3, ...).
    node.INTERACTIVE.GRANULARITIES = (0.3, 0.5, 1.0)
    # The best of these for each object gives the oracle_ numbers, which look at the truth.
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
    return node
