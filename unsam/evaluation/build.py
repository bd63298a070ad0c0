"""Registries of evaluators and of segmenters that need no training, and their builders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fvcore.common.config import CfgNode

from unsam.config import Registry

if TYPE_CHECKING:
    from unsam.data import ImageRecord
    from unsam.evaluation.evaluator import Evaluator

EVALUATORS = Registry("EVALUATORS")
"""Classes with ``from_config(cfg, records)``, chosen by ``EVALUATION.EVALUATORS``."""

SEGMENTERS = Registry("SEGMENTERS")
"""Classes with ``from_config(cfg)`` and ``generate``, chosen by ``EVALUATION.SEGMENTER``."""


def build_evaluator(name: str, cfg: CfgNode, records: Sequence[ImageRecord]) -> Evaluator:
    """Return the evaluator of that name for the photos of one dataset."""
    return EVALUATORS.get(name).from_config(cfg, records)


def build_segmenter(cfg: CfgNode) -> Any:
    """Return the classical segmenter that ``EVALUATION.SEGMENTER`` names."""
    return SEGMENTERS.get(cfg.EVALUATION.SEGMENTER).from_config(cfg)
