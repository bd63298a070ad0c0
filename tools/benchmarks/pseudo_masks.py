"""Default pseudo masks of one photo at 0.25 to 16 megapixels: seconds and memory."""

from __future__ import annotations

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cv2
import numpy as np

MEGAPIXELS = (0.25, 1.0, 4.0, 16.0)


def benchmark_pseudo_masks() -> dict[str, Any]:
    """Return, per size, median seconds, masks, and the memory of a process of its own."""
    figures = {}
    for megapixels in MEGAPIXELS:
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=fresh) as process:
            measured = process.submit(measure, megapixels).result()
        figures |= {f"{megapixels:g}_mp_{key}": value for key, value in measured.items()}
    return figures


def measure(megapixels: float) -> dict[str, Any]:
    """Return the figures of one size; the peaks are those of the whole process, in MiB."""
    from benchmark import median_seconds
    from divide_and_conquer.pipeline import build_masker
    from unsam.config import get_cfg

    cv2.setNumThreads(1)
    photo = photo_of(megapixels)
    masker = build_masker(get_cfg())
    before = _peak_mib()
    seconds = median_seconds(lambda: masker(photo), repeats=3)
    return {
        "seconds": seconds,
        "masks": len(masker(photo)),
        "peak_mib_before": before,
        "peak_mib": _peak_mib(),
    }


def photo_of(megapixels: float) -> np.ndarray:
    """Return a real photo ``uint8 [H, W, 3]`` resized to about so many pixels, 3:2."""
    from skimage import data

    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    return cv2.resize(data.coffee(), (round(1.5 * height), height), interpolation=cv2.INTER_CUBIC)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
