"""Every published architecture is trained, evaluated and used by the same commands as ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import train_net
from tests.engine.tiny import make_dataset
from unsam import Segmenter

TINY = {
    "unsamv2/sam_vit_b.yaml": ["INPUT.IMAGE_SIZE", "64"],
    "unsamv2/sam2_hiera_small.yaml": ["INPUT.IMAGE_SIZE", "64", "MODEL.SAM2.SIZE", "tiny"],
    "unsam/whole_image_R50_granular.yaml": [
        *("INPUT.SHORTER_SIDE", "64", "INPUT.IMAGE_SIZE", "64"),
        *("MODEL.QUERY_DECODER.NUM_QUERIES", "8", "MODEL.QUERY_DECODER.NUM_LAYERS", "2"),
        *("MODEL.PIXEL_DECODER.NUM_LAYERS", "1", "CRITERION.QUERIES.NUM_POINTS", "64"),
    ],
    "unsam/promptable_SwinT.yaml": [
        *("INPUT.SHORTER_SIDE", "64", "INPUT.IMAGE_SIZE", "64"),
        *("MODEL.PROMPTED_DECODER.NUM_LAYERS", "2", "MODEL.PROMPTED_DECODER.MAX_PROMPTS", "3"),
        *("MODEL.PIXEL_DECODER.NUM_LAYERS", "1", "CRITERION.QUERIES.NUM_POINTS", "64"),
    ],
}


@pytest.mark.parametrize("recipe", list(TINY))
def test_train_evaluate_and_use(recipe: str, tmp_path: Path) -> None:
    annotations = make_dataset(tmp_path / "data", ["a.png", "b.png"])
    run = tmp_path / "run"
    words = [
        *("OUTPUT_DIR", str(run), "DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"),
        *("DATASETS.TRAIN", str(annotations), "DATASETS.TEST", str(annotations)),
        *("DATASETS.IMAGE_ROOT", str(tmp_path / "data"), "EVALUATION.MAX_IMAGES", "1"),
        *("SOLVER.MAX_ITER", "2", "SOLVER.BATCH_SIZE", "2", "SOLVER.LOG_PERIOD", "1"),
        *("SOLVER.PRECISION", "float32", "INFERENCE.POINTS_PER_SIDE", "2"),
        *("INFERENCE.QUALITY_THRESHOLD", "0.0", "INFERENCE.STABILITY_THRESHOLD", "0.0"),
        *TINY[recipe],
    ]
    assert train_net.main(["--config-file", recipe, *words]) == 0
    given = ["--config-file", str(run / "config.yaml"), "--eval-only"]
    assert train_net.main([*given, "MODEL.WEIGHTS", str(run / "model.safetensors")]) == 0

    segmenter = Segmenter.from_pretrained(run / "model.safetensors", "cpu")
    photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert segmenter.generate(photo).size == (40, 60)
    if segmenter.takes_prompts:
        segmenter.set_image(photo)
        answer = segmenter.predict(points=[[10, 20]], granularity=[0.1, 1.0])
        assert answer.masks.shape == (2, 40, 60)
    assert all(torch.isfinite(value).all() for value in segmenter.model.parameters())
