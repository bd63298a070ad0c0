"""Pseudo masks of one photo: seconds and memory by photo size and by number of instances."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import cv2
import numpy as np

MEGAPIXELS = (0.25, 1.0, 4.0, 16.0)
INSTANCES = (1, 10, 100)


def benchmark_pseudo_masks() -> dict[str, Any]:
    """Return median seconds, masks and the memory of a process of its own, for each case."""
    figures = {}
    for megapixels in MEGAPIXELS:
        measured = _in_a_process(by_size, megapixels)
        figures |= {f"default_{megapixels:g}_mp_{key}": value for key, value in measured.items()}
    for count in INSTANCES:
        measured = _in_a_process(by_instances, count)
        figures |= {f"{count}_instances_4_mp_{key}": value for key, value in measured.items()}
    return figures


def by_size(megapixels: float) -> dict[str, Any]:
    """Return the figures of the default preset at one size."""
    from divide_and_conquer.pipeline import build_masker
    from unsam.config import get_cfg

    masker, photo = build_masker(get_cfg()), photo_of(megapixels)
    return _measure(lambda: len(masker(photo)))


def by_instances(count: int) -> dict[str, Any]:
    """Return the figures of the preset unsam_classical with so many given objects."""
    from divide_and_conquer.instance_hierarchy import InstanceHierarchy
    from divide_and_conquer.pipeline import build_masker
    from unsam.config import get_cfg, load_preset
    from unsam.structures import MaskSet

    photo = photo_of(4.0)
    objects = build_masker(get_cfg())(photo).filter(range(1, 1 + count))
    options = ["PSEUDO_MASKS.DIVIDE.NAME", "none", "PSEUDO_MASKS.WHOLE_IMAGE", "False"]
    hierarchy = InstanceHierarchy.from_config(load_preset("unsam_classical", options))
    hierarchy.divider = lambda _: objects
    nothing = MaskSet.empty(objects.size)
    return _measure(lambda: len(hierarchy(photo, nothing)[0]))


def photo_of(megapixels: float) -> np.ndarray:
    """Return a real photo ``uint8 [H, W, 3]`` resized to about so many pixels, 3:2."""
    from skimage import data

    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    return cv2.resize(data.coffee(), (round(1.5 * height), height), interpolation=cv2.INTER_CUBIC)


def _measure(make: Callable[[], int]) -> dict[str, Any]:
    """Return figures of a function that returns a number of masks; peaks in MiB."""
    from benchmark import median_seconds

    cv2.setNumThreads(1)
    before = _peak_mib()
    seconds = median_seconds(make, repeats=3)
    return {
        "seconds": seconds,
        "masks": make(),
        "peak_mib_before": before,
        "peak_mib": _peak_mib(),
    }


def _in_a_process(function: Callable[[Any], dict[str, Any]], argument: float) -> dict[str, Any]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, argument).result()


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
