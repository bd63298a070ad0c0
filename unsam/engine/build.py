"""The trainer of a config: its data, model, optimizer and hooks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import nn

from unsam.checkpoint.checkpointer import Checkpointer
from unsam.config import config_text
from unsam.data import get_dataset
from unsam.data.loader import TrainLoader, build_train_loader
from unsam.engine import distributed, random_state
from unsam.engine.ema import WeightAverage
from unsam.engine.hooks import CheckpointHook, EvaluationHook, MetricsHook
from unsam.engine.trainer import Hook, Trainer
from unsam.engine.writers import JsonlWriter, ProgressWriter
from unsam.errors import ConfigError
from unsam.modeling import SegmentationModel, build_model
from unsam.modeling.granular_parts import freeze_all_but_granularity
from unsam.modeling.precision import autocast_dtype
from unsam.modeling.training_model import TrainingModel
from unsam.solver import Schedule, build_optimizer

METRICS_FILE = "metrics.jsonl"
WEIGHTS_FILE = "model.safetensors"

logger = logging.getLogger(__name__)


def build_trainer(
    cfg: CfgNode,
    device: torch.device,
    checkpointer: Checkpointer,
    evaluate: Callable[[nn.Module], Any] | None = None,
) -> Trainer:
    """Return the trainer of a config with its hooks, before its first step.

    Args:
        cfg: the merged config.
        device: of this process.
        checkpointer: where its checkpoints go.
        evaluate: what to do with the model each ``SOLVER.EVAL_PERIOD`` steps.

    Raises:
        UnsamError: no data, a model that cannot be built, a batch size that cannot be dealt out.
    """
    records = [
        record
        for name in cfg.DATASETS.TRAIN
        for record in get_dataset(name, cfg.DATASETS.IMAGE_ROOT)
    ]
    model = build_seeded_model(cfg, device)
    if cfg.MODEL.GRANULARITY.ENABLED and not cfg.MODEL.GRANULARITY.TRAIN_BASE:
        freeze_all_but_granularity(model)
    training_model = TrainingModel.from_config(cfg, model).to(device)
    optimizer = build_optimizer(cfg, training_model)
    decay = cfg.SOLVER.EMA.DECAY
    average = WeightAverage(model, decay) if decay > 0 else None
    # What is evaluated is what will be used.
    evaluated = model if average is None else average.model

    def make_loader(start: int) -> TrainLoader:
        return build_train_loader(
            cfg,
            records,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            start=start,
            device=device,
        )

    # Bad values show now, not after a checkpoint has been read.
    make_loader(0)
    logger.info(
        "%d photos, %d parameters of which %d learn, %d process(es) on %s",
        len(records),
        sum(parameter.numel() for parameter in model.parameters()),
        sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        distributed.world_size(),
        device,
    )
    return Trainer(
        training_model=training_model,
        optimizer=optimizer,
        schedule=Schedule.from_config(cfg, optimizer),
        make_loader=make_loader,
        batch_size=cfg.SOLVER.BATCH_SIZE,
        max_iter=cfg.SOLVER.MAX_ITER,
        max_seconds=cfg.SOLVER.MAX_SECONDS,
        accumulate=cfg.SOLVER.ACCUMULATE,
        clip_norm=cfg.SOLVER.CLIP_NORM,
        autocast=_training_dtype(cfg.SOLVER.PRECISION, device),
        device=device,
        hooks=_hooks(cfg, checkpointer, evaluate and partial(evaluate, evaluated)),
        average=average,
        seed=cfg.SEED,
    )


def build_seeded_model(cfg: CfgNode, device: torch.device) -> SegmentationModel:
    """Return the model of a config on `device`, with the same random weights on every rank."""
    # All ranks start from the same weights: the first rank's generator, then each its own again.
    random_state.seed_everything(cfg.SEED)
    model = build_model(cfg).to(device)
    random_state.seed_everything(cfg.SEED, distributed.rank())
    return model


def _training_dtype(name: str, device: torch.device) -> torch.dtype | None:
    dtype = autocast_dtype(name, device, "SOLVER.PRECISION")
    if dtype is torch.float16:
        raise ConfigError(
            "SOLVER.PRECISION: gradients vanish in float16 without loss scaling; use bfloat16"
        )
    return dtype


def _hooks(
    cfg: CfgNode, checkpointer: Checkpointer, evaluate: Callable[[], Any] | None
) -> list[Hook]:
    output = Path(cfg.OUTPUT_DIR)
    hooks: list[Hook] = [
        MetricsHook(
            cfg.SOLVER.LOG_PERIOD,
            lambda start: [JsonlWriter(output / METRICS_FILE, start), ProgressWriter()],
        ),
        CheckpointHook(
            checkpointer, cfg.CHECKPOINT.PERIOD, config_text(cfg), output / WEIGHTS_FILE
        ),
    ]
    # After the checkpoint: a crash in the evaluation costs no training.
    if evaluate is not None and cfg.SOLVER.EVAL_PERIOD > 0:
        hooks.append(EvaluationHook(cfg.SOLVER.EVAL_PERIOD, evaluate))
    return hooks
