"""Making training samples against using them up: images per second of the loader and of models."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

IMAGE_SIZE = 1024
NUM_MASKS = 500
# As SA-1B comes: the shorter side reduced to 1,500 pixels.
PHOTO_SIZE = (1500, 2250)
MAX_MASKS = (30, 64, 500)
NUM_WORKERS = (0, 1, 2)
SECONDS = 10.0
STEPS = 3
RECIPES = {"granular_sam": "", "unsamv2_sam2_small": "unsamv2/sam2_hiera_small.yaml"}


def benchmark_loader() -> dict[str, Any]:
    """Return images per second of the loader alone and of training steps alone, each on a photo.

    The rates of the loader are printed to stderr as they come.
    """
    figures: dict[str, Any] = {
        "photo": f"{PHOTO_SIZE[0]}x{PHOTO_SIZE[1]}",
        "masks_of_photo": NUM_MASKS,
        "image_size": IMAGE_SIZE,
    }
    with tempfile.TemporaryDirectory() as folder:
        _write_data_set(Path(folder))
        for max_masks in MAX_MASKS:
            for workers in NUM_WORKERS:
                key = f"loader_{max_masks}_masks_{workers}_workers_images_per_second"
                figures[key] = _loader_rate(folder, "", max_masks, workers)
                print(json.dumps({key: figures[key]}), file=sys.stderr, flush=True)
        recipe = RECIPES["unsamv2_sam2_small"]
        figures["loader_unsamv2_0_workers_images_per_second"] = _loader_rate(folder, recipe, 30, 0)
        for name, recipe in RECIPES.items():
            figures[f"{name}_images_per_second"] = _step_rate(folder, recipe)
    return figures


def _write_data_set(folder: Path) -> None:
    """Write a photo with masks of a hierarchy of its own regions, as pseudo masks are kept."""
    from skimage import data

    from benchmarks.masks import hierarchy_of_photo
    from unsam.structures import read_photo

    root = Path(os.environ.get("UNSAM_DATA", Path(__file__).parents[3] / "shared" / "data"))
    source = root / "demo" / "sa_234337.jpg"
    photo = read_photo(source) if source.is_file() else data.astronaut()
    photo = cv2.resize(photo, PHOTO_SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(folder / "photo.jpg"), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    hierarchy = hierarchy_of_photo()
    masks = hierarchy.filter(range(0, len(hierarchy), len(hierarchy) // NUM_MASKS))
    record = masks.resize(PHOTO_SIZE).to_sa1b("photo.jpg")
    assert len(record["annotations"]) == NUM_MASKS
    (folder / "photo.jpg.json").write_text(json.dumps(record))
    manifest = {"image_root": str(folder), "images": {"photo.jpg": record["image"]}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _config(recipe: str, options: Sequence[Any]) -> Any:
    from unsam.config import get_cfg, load_config

    fixed = ["INPUT.IMAGE_SIZE", IMAGE_SIZE, "SOLVER.BATCH_SIZE", 1, *options]
    if recipe:
        return load_config(recipe, fixed)
    cfg = get_cfg()
    cfg.merge_from_list(fixed)
    return cfg


def _loader_rate(folder: str, recipe: str, max_masks: int, workers: int) -> float:
    """Return images per second that come out of the loader when nothing else is done."""
    from unsam.data import get_dataset
    from unsam.data.loader import build_train_loader

    options = ["DATALOADER.MAX_MASKS", max_masks, "DATALOADER.NUM_WORKERS", workers]
    batches = iter(build_train_loader(_config(recipe, options), get_dataset(folder)))
    # What workers made ahead does not count.
    for _ in range(2 + 4 * workers):
        next(batches)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        images += len(next(batches))
    rate = images / (time.perf_counter() - start)
    batches.close()
    return rate


def _step_rate(folder: str, recipe: str) -> float:
    """Return images per second of forward and backward, random weights, four masks, one click each.

    More masks and clicks, as the recipes have them, make a step slower still and take gigabytes.
    """
    from unsam.data import get_dataset
    from unsam.data.loader import build_train_loader
    from unsam.modeling import build_model
    from unsam.modeling.training_model import TrainingModel

    few_clicks = ["MODEL.CLICKS.MASKS_PER_IMAGE", 4, "MODEL.CLICKS.ROUNDS", 1]
    cfg = _config(recipe, ["DATALOADER.NUM_WORKERS", 0, *few_clicks])
    batches = iter(build_train_loader(cfg, get_dataset(folder)))
    model = TrainingModel.from_config(cfg, build_model(cfg))
    seconds = []
    for _ in range(STEPS):
        batch = next(batches)
        start = time.perf_counter()
        losses = model(batch, float(max(model.count_targets(batch), 1)), 0.0)
        sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
        model.zero_grad()
        seconds.append(time.perf_counter() - start)
    batches.close()
    return 1 / statistics.median(seconds)
