"""The dense CRF on a photo of 480x480 pixels, for one mask and for many masks of the photo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIDE = 480
CELLS = 60
NUM_MASKS = 16
PUBLISHED_SECONDS = 0.42
"""What MaskCut's CRF (pydensecrf) took for one mask on one core of this kind of machine."""


def benchmark_crf() -> dict[str, Any]:
    """Return seconds per mask (median of whole runs, lattices included), on one core."""
    from benchmark import median_seconds
    from divide_and_conquer.refine.crf import DenseCrf, dense_crf

    photo, masks = photo_and_masks()
    one = median_seconds(lambda: dense_crf(photo, masks[:1]), repeats=9)
    many = median_seconds(lambda: dense_crf(photo, masks), repeats=5) / NUM_MASKS
    together = dense_crf(photo, masks)
    alone = np.concatenate([dense_crf(photo, masks[i : i + 1]) for i in range(NUM_MASKS)])
    return {
        "lattices_seconds": median_seconds(lambda: DenseCrf(photo), repeats=9),
        "seconds_per_mask_1": one,
        f"seconds_per_mask_{NUM_MASKS}": many,
        "published_seconds_per_mask": PUBLISHED_SECONDS,
        "speedup_1": PUBLISHED_SECONDS / one,
        f"speedup_{NUM_MASKS}": PUBLISHED_SECONDS / many,
        "same_together_and_alone": bool(np.array_equal(together, alone)),
    }


def photo_and_masks() -> tuple[np.ndarray, np.ndarray]:
    """Return a photo (of UNSAM_DATA, else scikit-image's) and blocky masks of its brightness.

    ``uint8 [480, 480, 3]`` and ``float32 [16, 480, 480]`` of 0 and 1 in cells of 8 pixels, as
    MaskCut hands them over.
    """
    from skimage import data

    from unsam.structures import read_photo

    root = Path(os.environ.get("UNSAM_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = root / "demo" / "sa_234337.jpg"
    image = read_photo(path) if path.is_file() else data.astronaut()
    photo = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    cells = cv2.resize(grey, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    levels = np.quantile(cells, np.linspace(0.1, 0.9, NUM_MASKS))
    masks = (cells[None] > levels[:, None, None]).astype(np.float32)
    factor = SIDE // CELLS
    return photo, masks.repeat(factor, axis=1).repeat(factor, axis=2)
