"""A data set and a model that train in milliseconds, for tests of the engine."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from PIL import Image
from torch import nn
from torch.nn import functional as F

from unsam.checkpoint.checkpointer import Checkpointer
from unsam.config import get_cfg
from unsam.engine import Hook, Trainer, build_trainer
from unsam.modeling import META_ARCHITECTURES, SegmentationModel
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.training_context import TaskSampler, TrainingContext
from unsam.structures import MaskSet

NAME = "TinyTestModel"


def make_dataset(folder: Path, names: list[str], masks: int | Sequence[int] = 6) -> Path:
    """Write photos of noise with rectangles as masks, and their COCO JSON; return the JSON."""
    generator = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, name in enumerate(names, start=1):
        photo = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(photo).save(folder / name)
        images.append({"id": number, "file_name": name, "width": 32, "height": 24})
        count = masks if isinstance(masks, int) else masks[number - 1]
        dense = np.zeros((count, 24, 32), bool)
        for index in range(count):
            top, left = generator.integers(0, 12), generator.integers(0, 16)
            dense[index, top : top + 12, left : left + 16] = True
        granularity = generator.uniform(0.1, 1.0, count)
        annotations += MaskSet.from_masks(dense, granularity=granularity).to_coco(
            number, first_id=len(annotations) + 1
        )
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return path


def tiny_cfg(annotations: Path, output: Path, **solver: Any) -> CfgNode:
    cfg = get_cfg()
    cfg.DEVICE = "cpu"
    cfg.OUTPUT_DIR = str(output)
    cfg.DATASETS.TRAIN = (str(annotations),)
    cfg.DATASETS.IMAGE_ROOT = str(annotations.parent)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.IMAGE_SIZE = 32
    cfg.MODEL.META_ARCHITECTURE = NAME
    cfg.SOLVER.BATCH_SIZE = 2
    cfg.SOLVER.WARMUP_ITERS = 2
    cfg.SOLVER.LOG_PERIOD = 1
    cfg.SOLVER.BASE_LR = 0.01
    # One and two ranks agree to the last digits only in full precision.
    cfg.SOLVER.PRECISION = "float32"
    for key, value in solver.items():
        setattr(cfg.SOLVER, key, value)
    return cfg


@META_ARCHITECTURES.register()
class TinyTestModel(SegmentationModel):
    """Predicts masks from colour; draws from torch's generator.

    A photo named ``poison…`` gives a loss that is not a number; ``steep…`` a finite loss whose
    gradient is infinite; ``loud…`` one whose gradient is large; ``huge…`` does not fit in memory.
    """

    def __init__(self, noise: float = 0.1) -> None:
        super().__init__(pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1))
        self.noise = noise
        self.embed = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.head = nn.Linear(4, 1)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        del cfg
        return {}

    def encode(self, images: Sequence[torch.Tensor]) -> None:
        del images

    def count_targets(
        self,
        batch: Sequence[dict[str, Any]],
        random: SampleRandom,
        tasks: TaskSampler | None = None,
    ) -> int:
        del random
        return sum(len(sample["masks"]) for sample in batch)

    def losses(self, context: TrainingContext) -> dict[str, torch.Tensor]:
        batch = context.batch
        losses = [self._loss(sample) for sample in batch]
        return {
            "loss_mask": torch.stack(losses).mean(),
            "loss_size": 0.001 * self.token.square().sum(),
            "samples": torch.tensor(float(len(batch))),
        }

    def _loss(self, sample: dict[str, Any]) -> torch.Tensor:
        pixels = sample["image"].float() / 255
        pixels = pixels + self.noise * torch.rand(())
        features = self.embed(pixels[None])
        if self.noise:
            features = self.norm(features)
        features = features[0].permute(1, 2, 0)
        total = 0.0 * sum(p.sum() for p in self.parameters())
        for mask, granularity in zip(sample["masks"], sample["granularity"], strict=True):
            logits = self.head(features + self.token * granularity)[..., 0]
            loss = F.binary_cross_entropy_with_logits(logits, mask.float())
            total = total + loss / len(sample["masks"])
        name = Path(sample["file_name"]).name
        if name.startswith("poison"):
            total = total * math.nan
        if name.startswith("huge"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        if name.startswith("loud"):
            total = 100.0 * total
        if name.startswith("steep"):
            total = total + torch.sqrt(0.0 * self.token.sum())
        return total


class SignalAt(Hook):
    """Sends this process a signal after a step."""

    def __init__(self, iteration: int, number: int = signal.SIGTERM) -> None:
        self._iteration = iteration
        self._number = number

    def after_step(self, trainer: Trainer) -> None:
        if trainer.iteration == self._iteration:
            os.kill(os.getpid(), self._number)


class Recorder(Hook):
    """Keeps the losses, rates and photos of each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, ...]] = []

    def after_step(self, trainer: Trainer) -> None:
        self.steps.append(
            (trainer.iteration, dict(trainer.losses), trainer.learning_rate, trainer.gradient_norm)
        )


def make_trainer(cfg: CfgNode, *hooks: Hook) -> tuple[Trainer, Checkpointer]:
    from unsam.engine import random_state
    from unsam.engine.distributed import rank

    random_state.seed_everything(cfg.SEED, rank())
    checkpointer = Checkpointer(Path(cfg.OUTPUT_DIR) / "checkpoints", cfg.CHECKPOINT.KEEP)
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    trainer = build_trainer(cfg, torch.device("cpu"), checkpointer)
    trainer.hooks += hooks
    return trainer, checkpointer
