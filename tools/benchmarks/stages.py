"""UnSAM's pipeline stage by stage with random weights: what the time of a photo is made of.

Random weights find nothing of sense, so the instances are the 16 largest regions of the default
hierarchy. Runs on a GPU where there is one; the first run of each stage is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

INSTANCES = 16
THETAS = (0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


def benchmark_stages() -> dict[str, Any]:
    """Return seconds per photo of each stage, and photos per second of all of them together."""
    import timm
    import torch
    from skimage import data

    from benchmark import median_seconds
    from divide_and_conquer.divide.cutler import CutlerDivider
    from divide_and_conquer.divide.cutler.detector import CascadeMaskRcnn
    from divide_and_conquer.features.vit import VitFeatures
    from divide_and_conquer.grid_conquer import conquer_instance, instance_box
    from divide_and_conquer.pipeline import build_masker
    from unsam.config import get_cfg

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    photo = data.coffee()
    divider = CutlerDivider(CascadeMaskRcnn(), device=device, score_threshold=0.0)
    vit = VitFeatures(
        timm.create_model("vit_base_patch8_224", num_classes=0, dynamic_img_size=True),
        output="keys", side=256, batch_size=INSTANCES, device=device,
    )  # fmt: skip
    masks = build_masker(get_cfg())(photo)
    instances = [masks.filter([index]) for index in range(1, 1 + INSTANCES)]
    boxes = [instance_box(instance) for instance in instances]
    crops = [photo[y0:y1, x0:x1] for x0, y0, x1, y1 in boxes]
    grids = vit.batch(crops)

    def conquer_all() -> None:
        for grid, instance in zip(grids, instances, strict=True):
            conquer_instance(
                grid, instance, thresholds=THETAS, min_patches=4, min_coverage=0.9, nms_iou=0.9
            )

    stages: dict[str, Callable[[], Any]] = {
        "divide_cutler": lambda: divider(photo),
        f"features_vit_b8_{INSTANCES}_crops": lambda: vit.batch(crops),
        f"conquer_{INSTANCES}_instances": conquer_all,
    }
    figures: dict[str, Any] = {"device": device, "photo": f"{photo.shape[1]}x{photo.shape[0]}"}
    total = 0.0
    for name, run in stages.items():
        seconds = median_seconds(run, repeats=3)
        figures[f"{name}_seconds"] = seconds
        total += seconds
    return figures | {"all_seconds": total, "photos_per_second": 1 / total}
