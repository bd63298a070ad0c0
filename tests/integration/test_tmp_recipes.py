"""Every recipe of training, made tiny: its losses, rates, precision and config are what it says."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

import train_net
from tests.engine.tiny import make_dataset, make_trainer
from tests.modeling.backbone.conftest import SMALL_SWIN, SMALL_VIT
from tests.modeling.sam2.tiny import TINY as SMALL_HIERA
from unsam.checkpoint.checkpointer import load_checkpoint
from unsam.config import list_configs, load_config
from unsam.engine import Trainer
from unsam.modeling import build_model
from unsam.modeling.backbone import resnet, swin
from unsam.modeling.encoder_layers import encoder_name
from unsam.modeling.objectives import WeightSchedule
from unsam.modeling.pretrained import load_weights_into
from unsam.modeling.sam import image_encoder
from unsam.modeling.sam2 import architectures
from unsam.solver import Schedule

FOLDERS = ("unsam/", "unsamv2/", "quickstart/", "fit/")
RECIPES = [
    name
    for name in list_configs()
    if name.startswith(FOLDERS) or name == "unsam_only_sa-1b_swinL.yaml"
]

_FEW_POINTS = ["CRITERION.QUERIES.NUM_POINTS", "64", "MODEL.PIXEL_DECODER.NUM_LAYERS", "1"]
_NARROW = ["MODEL.PIXEL_DECODER.DIM", "32", "MODEL.PIXEL_DECODER.MASK_DIM", "32"]
TINY = {
    "Mask2Former": [
        *("MODEL.QUERY_DECODER.NUM_QUERIES", "8", "MODEL.QUERY_DECODER.NUM_LAYERS", "2"),
        *("INPUT.SHORTER_SIDE", "64"),
        *(*_FEW_POINTS, *_NARROW),
    ],
    "SemanticSam": [
        *("MODEL.PROMPTED_DECODER.NUM_LAYERS", "2", "MODEL.PROMPTED_DECODER.MAX_PROMPTS", "3"),
        *("INPUT.SHORTER_SIDE", "64"),
        *(*_FEW_POINTS, *_NARROW),
    ],
    "Sam": ["MODEL.CLICKS.MASKS_PER_IMAGE", "3"],
    "Sam2": ["MODEL.CLICKS.MASKS_PER_IMAGE", "3"],
    "GranularSam": [
        *("MODEL.EMBED_DIM", "32", "MODEL.IMAGE_ENCODER.STEM_DIM", "8"),
        *("MODEL.IMAGE_ENCODER.STAGE_DIMS", "(16, 16, 32)", "MODEL.IMAGE_ENCODER.NUM_HEADS", "2"),
        *("MODEL.MASK_DECODER.MLP_DIM", "32", "MODEL.MASK_DECODER.UPSCALE_DIMS", "(16, 8)"),
    ],
}
QUERIES = {"loss_class", "loss_mask", "loss_dice"}
PROMPTED = {"loss_mask", "loss_dice", "loss_box", "loss_giou", "loss_quality"}
CLICKED = {"loss_focal", "loss_dice", "loss_quality"}


@dataclass(frozen=True)
class Published:
    """What the papers, or ours, say about the rates.

    Attributes:
        rate: of all but the image encoder, after the warm-up.
        encoder: rate of the image encoder as a share of it; None where it does not learn.
        warmup: steps.
        factors: multiples of the rate at 0, 50, 92 and 97 % of the training.
        losses: of the model, without objectives.
    """

    rate: float
    encoder: float | None
    warmup: int
    factors: tuple[float, float, float, float]
    losses: set[str]


def _cosine(final: float) -> tuple[float, float, float, float]:
    values = [
        final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)) for done in (0, 0.5, 0.92, 0.97)
    ]
    return values[0], values[1], values[2], values[3]


WHOLE_IMAGE = Published(5e-5, 0.1, 10, (1, 1, 0.1, 0.01), QUERIES)
PROMPTABLE = Published(1e-4, 0.1, 10, (1, 1, 0.1, 0.01), PROMPTED)
UNSAMV2 = Published(1e-4, None, 0, _cosine(0.1), CLICKED | {"loss_object"})
UNSAMV2_SAM = Published(1e-4, None, 0, _cosine(0.1), CLICKED)
SMALL = Published(1e-3, 1.0, 50, _cosine(0.01), CLICKED)
PUBLISHED = {
    "Mask2Former": WHOLE_IMAGE,
    "SemanticSam": PROMPTABLE,
    "Sam2": UNSAMV2,
    "Sam": UNSAMV2_SAM,
    "GranularSam": SMALL,
    "unsam/sam_visa_ats.yaml": Published(1e-4, 1.0, 0, _cosine(0.1), CLICKED),
}


@pytest.fixture(autouse=True)
def tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that no key of a config changes."""
    for size in swin.SIZES:
        monkeypatch.setitem(swin.SIZES, size, SMALL_SWIN)
    monkeypatch.setitem(image_encoder.ENCODERS, "base", SMALL_VIT)
    monkeypatch.setitem(architectures.SIZES, "small", SMALL_HIERA)
    monkeypatch.setattr(resnet, "_DEPTHS", [1, 1, 1, 1])


def _words(recipe: str, tmp_path: Path) -> list[str]:
    """Return the overrides that make a recipe tiny, and all of its objectives speak."""
    data = tmp_path / "data"
    annotations = make_dataset(data, [f"{number}.png" for number in range(3)])
    return [
        *("OUTPUT_DIR", str(tmp_path / "run"), "DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"),
        *("DATASETS.TRAIN", str(annotations), "DATASETS.TEST", "()"),
        *("DATASETS.IMAGE_ROOT", str(data), "MODEL.WEIGHTS", "", "INPUT.IMAGE_SIZE", "64"),
        *("SOLVER.MAX_ITER", "24", "SOLVER.BATCH_SIZE", "2", "SOLVER.LOG_PERIOD", "1"),
        *("TASKS.REFRESH_PERIOD", "1", "OBJECTIVES.PROPAGATION.QUALITY_THRESHOLD", "-100.0"),
        *("OBJECTIVES.PROPAGATION.STABILITY_THRESHOLD", "0.0"),
        *TINY[load_config(recipe).MODEL.META_ARCHITECTURE],
    ]


def _objectives_at(cfg: CfgNode, progress: float) -> set[str]:
    return {
        f"loss_{name.lower()}"
        for name, node in cfg.OBJECTIVES.items()
        if WeightSchedule(node.WEIGHT, node.SCHEDULE, node.START, node.END)(progress) > 0
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_trains_as_it_says(recipe: str, tmp_path: Path) -> None:
    words, run = _words(recipe, tmp_path), tmp_path / "run"
    cfg = load_config(recipe, words)
    published = PUBLISHED.get(recipe, PUBLISHED[cfg.MODEL.META_ARCHITECTURE])
    import time
    t=time.time()
    assert train_net.main(["--config-file", recipe, *words]) == 0
    print("TRAIN", recipe, time.time()-t)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    print("LINES", recipe, [(l["gradient_scale"], round(l["grad_norm"],3)) for l in lines])
