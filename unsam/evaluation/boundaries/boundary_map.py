"""Boundary maps of contour maps, of people's segmentations and of mask sets."""

from __future__ import annotations

import numpy as np

from unsam.evaluation.boundaries.thinning import thinned
from unsam.regions.contours import contour_strength
from unsam.structures import MaskSet


def ucm_strength(ucm: np.ndarray) -> np.ndarray:
    """Return the boundary strength ``[H, W]`` of an ultrametric contour map ``[2H + 1, 2W + 1]``.

    The even places of the doubled grid lie between pixels (Arbelaez et al., PAMI 2011); as in the
    benchmark, that between a pixel and its right and lower neighbours goes to the pixel.

    Raises:
        ValueError: a map with an even number of rows or columns.
    """
    if ucm.ndim != 2 or ucm.shape[0] % 2 == 0 or ucm.shape[1] % 2 == 0:
        raise ValueError(f"a contour map is [2H + 1, 2W + 1], got shape {ucm.shape}")
    return ucm[2::2, 2::2]


def mask_strength(masks: MaskSet) -> np.ndarray:
    """Return the boundary strength of any mask set, ``float32 [H, W]`` in [0, 1].

    Masks that agree on a contour make it strong (`unsam.regions.contours.contour_strength`), so
    everything that gives scored masks has boundaries to measure, not contour detectors alone.
    """
    return contour_strength(masks).astype(np.float32) / 255


def label_boundaries(labels: np.ndarray) -> np.ndarray:
    """Return the boundaries of a label map as the benchmark of BSDS500 draws people's.

    A pixel is marked if it, its right, lower and lower right neighbours have not all one label
    (those that exist); then the marks are thinned.

    Args:
        labels: ``[H, W]`` of any dtype.

    Returns:
        ``bool [H, W]``.
    """
    marked = np.zeros(labels.shape, bool)
    marked[:-1] |= labels[1:] != labels[:-1]
    marked[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    marked[:-1, :-1] |= labels[1:, 1:] != labels[:-1, :-1]
    return thinned(marked)
