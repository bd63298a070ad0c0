"""Every configuration key, its default and its meaning.

A recipe in ``configs/`` names only what it changes. Sizes are in pixels, times in seconds,
granularities in [0.1, 1] (0.1 the finest part, 1 the whole).
"""

from __future__ import annotations

from fvcore.common.config import CfgNode


def get_cfg() -> CfgNode:
    """Return a fresh copy of the default configuration, keys in upper case."""
    cfg = CfgNode()
    cfg.VERSION = 1
    cfg.SEED = 1234
    # Where a run writes its checkpoints, metrics, config and results.
    cfg.OUTPUT_DIR = "output"
    # "auto" (CUDA when there is one), "cpu", "cuda" or "cuda:1".
    cfg.DEVICE = "auto"
    cfg.PSEUDO_MASKS = _pseudo_masks()
    cfg.DATASETS = _datasets()
    cfg.DATALOADER = _dataloader()
    cfg.INPUT = _input()
    cfg.MODEL = _model()
    cfg.CRITERION = _criterion()
    cfg.SOLVER = _solver()
    cfg.CHECKPOINT = _checkpoint()
    cfg.INFERENCE = _inference()
    cfg.EVALUATION = _evaluation()
    return cfg


def _pseudo_masks() -> CfgNode:
    node = CfgNode()
    return node


def _datasets() -> CfgNode:
    node = CfgNode()
    # Each entry: a registered name, a folder of pseudo masks, or a COCO-style JSON file.
    node.TRAIN = ()
    node.TEST = ()
    # Photos of a COCO-style JSON file or a moved pseudo-mask folder; "" takes what the file says.
    node.IMAGE_ROOT = ""
    return node


def _dataloader() -> CfgNode:
    node = CfgNode()
    return node


def _input() -> CfgNode:
    node = CfgNode()
    # The longer side is resized to this before the model sees the photo; batches pad to a square.
    node.IMAGE_SIZE = 256
    # RGB mean and standard deviation on the 0 to 255 scale (ImageNet).
    node.PIXEL_MEAN = (123.675, 116.28, 103.53)
    node.PIXEL_STD = (58.395, 57.12, 57.375)
    return node


def _model() -> CfgNode:
    node = CfgNode()
    node.META_ARCHITECTURE = "GranularSam"
    # A checkpoint to start from; "" is a random initialisation.
    node.WEIGHTS = ""
    return node


def _criterion() -> CfgNode:
    node = CfgNode()
    return node


def _solver() -> CfgNode:
    node = CfgNode()
    return node


def _checkpoint() -> CfgNode:
    node = CfgNode()
    return node


def _inference() -> CfgNode:
    node = CfgNode()
    return node


def _evaluation() -> CfgNode:
    node = CfgNode()
    return node
