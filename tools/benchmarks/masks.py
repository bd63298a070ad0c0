"""1,000 masks of a real hierarchy on a 1024x1024 photo: IoU matrix and exact NMS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIDE = 1024
NUM_MASKS = 1000
NMS_THRESHOLD = 0.8


def benchmark_masks() -> dict[str, Any]:
    """Return seconds of `MaskSet` and of pycocotools on the same RLEs, exactness and memory."""
    from pycocotools import mask as coco_mask

    from benchmark import median_seconds
    from unsam.structures import MaskSet

    masks = hierarchy_of_photo()
    rles = masks.rles
    crowd = [0] * len(rles)
    ours = median_seconds(lambda: MaskSet.from_rles(masks.size, rles).iou())
    ours_both = median_seconds(
        lambda: MaskSet.from_rles(masks.size, rles).nms(NMS_THRESHOLD, "area")
    )
    reference = median_seconds(lambda: coco_mask.iou(rles, rles, crowd), repeats=3)
    kept = masks.nms(NMS_THRESHOLD, "area").tolist()
    return {
        "masks": len(masks),
        "runs": masks.runs.shape[0],
        "iou_seconds": ours,
        "iou_and_nms_seconds": ours_both,
        "pycocotools_iou_seconds": reference,
        "speedup_vs_pycocotools": reference / ours,
        "identical_iou": bool(np.array_equal(masks.iou(), coco_mask.iou(rles, rles, crowd))),
        "identical_nms": kept == _brute_force_nms(coco_mask.iou(rles, rles, crowd), masks.areas),
        "process_peak_mib": _peak_mib(masks),
    }


def hierarchy_of_photo() -> Any:
    """Return a `MaskSet` of 1,000 nested masks of a photo (of UNSAM_DATA, else scikit-image's)."""
    from skimage import data
    from skimage.segmentation import slic

    from unsam.regions.conquer import merge_regions
    from unsam.structures import RegionTree, read_photo

    root = Path(os.environ.get("UNSAM_DATA", Path(__file__).parents[3] / "shared" / "data"))
    photo = root / "demo" / "sa_234337.jpg"
    image = read_photo(photo) if photo.is_file() else data.astronaut()
    image = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    labels = slic(image, n_segments=1200, compactness=8, start_label=0)
    labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)
    sizes = np.bincount(labels.ravel())
    colour = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.float64)
    sums = [np.bincount(labels.ravel(), colour[:, channel]) for channel in range(3)]
    features = np.stack(sums, 1) / sizes[:, None] - 100
    pairs = np.concatenate(
        [
            np.stack([labels[:, 1:].ravel(), labels[:, :-1].ravel()], 1),
            np.stack([labels[1:].ravel(), labels[:-1].ravel()], 1),
        ]
    )
    edges = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    merges = merge_regions(features, sizes, edges, np.array([-1.0])).merges
    masks = RegionTree.from_merges(labels, merges).masks(max_masks=NUM_MASKS)
    assert len(masks) == NUM_MASKS
    return masks


def _brute_force_nms(iou: np.ndarray, areas: np.ndarray) -> list[int]:
    kept: list[int] = []
    for index in np.argsort(-areas, kind="stable").tolist():
        if all(iou[index, other] <= NMS_THRESHOLD for other in kept):
            kept.append(index)
    return kept


def _peak_mib(masks: Any) -> float:
    """Return the peak memory in MiB of a fresh process that reads the RLEs, does IoU and NMS."""
    script = (
        "import json, resource, sys\n"
        "from unsam.structures import MaskSet\n"
        "masks = MaskSet.from_sa1b(json.load(sys.stdin))\n"
        f"masks.iou(); masks.nms({NMS_THRESHOLD}, 'area')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    record = json.dumps(masks.to_sa1b("photo"))
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, input=record, capture_output=True, text=True, check=True)
    return float(done.stdout)
