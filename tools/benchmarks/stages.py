"""UnSAM's pipeline stage by stage: what the time of a photo is made of, on a GPU if there is one.

The networks have random weights, which cost as much as trained ones but find nothing of sense;
hence the instances are the 16 largest regions of the default hierarchy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

INSTANCES = 16
THETAS = (0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
# SA-1B: the shorter side is 1,500 pixels.
SHORT_SIDE = 1500
ROUNDS = 3


def benchmark_stages() -> dict[str, Any]:
    """Return seconds per photo of each stage, and photos per second of all of them.

    On the CPU the time of the processor, which a busy machine does not stretch.
    """
    import torch

    from divide_and_conquer.grid_conquer import conquer_instance, instance_box
    from divide_and_conquer.pipeline import build_masker
    from unsam.config import get_cfg

    device = "cuda" if torch.cuda.is_available() else "cpu"
    photo = large_photo()
    masks = build_masker(get_cfg())(photo)
    instances = [masks.filter([index]) for index in range(1, 1 + INSTANCES)]
    boxes = [instance_box(instance) for instance in instances]
    crops = [photo[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes]
    divider, vit = _networks(device)
    grids = vit.batch(crops)

    def conquer_all() -> None:
        for grid, instance in zip(grids, instances, strict=True):
            conquer_instance(
                grid, instance, thresholds=THETAS, min_patches=4, min_coverage=0.9, nms_iou=0.9
            )

    figures: dict[str, Any] = {
        "device": device,
        "photo": f"{photo.shape[1]}x{photo.shape[0]}",
        "detections": len(divider(photo)),
        "instances": INSTANCES,
    }
    stages = {
        "cutler": lambda: divider(photo),
        "vit_b8": lambda: vit.batch(crops),
        "conquer": conquer_all,
    }
    seconds = {name: _median(run, device) for name, run in stages.items()}
    return {
        **figures,
        **{f"{name}_seconds": value for name, value in seconds.items()},
        "vit_b8_seconds_per_crop": seconds["vit_b8"] / INSTANCES,
        "photos_per_second": 1 / sum(seconds.values()),
    }


def large_photo() -> np.ndarray:
    """Return a real photo ``uint8 [1500, 2250, 3]``, enlarged."""
    from skimage import data

    return cv2.resize(
        data.coffee(), (SHORT_SIDE * 3 // 2, SHORT_SIDE), interpolation=cv2.INTER_CUBIC
    )


def _networks(device: str) -> tuple[Any, Any]:
    import timm
    import torch

    from divide_and_conquer.divide.cutler import CutlerDivider
    from divide_and_conquer.divide.cutler.detector import CascadeMaskRcnn
    from divide_and_conquer.features.vit import VitFeatures

    torch.manual_seed(0)
    net = CascadeMaskRcnn()
    for weights in net.parameters():
        if weights.ndim > 1:
            # Signals of about equal size in all layers, so that there is something to detect.
            torch.nn.init.normal_(weights, std=weights[0].numel() ** -0.5)
    # Every detection passes, so that the mask head has the most to do.
    divider = CutlerDivider(net, device=device, score_threshold=0.0)
    vit = timm.create_model("vit_base_patch8_224", num_classes=0, dynamic_img_size=True)
    return divider, VitFeatures(vit, output="keys", side=256, device=device)


def _median(run: Callable[[], Any], device: str) -> float:
    clock = time.perf_counter if device == "cuda" else time.process_time
    run()
    taken = []
    for _ in range(ROUNDS):
        start = clock()
        run()
        taken.append(clock() - start)
    return statistics.median(taken)
