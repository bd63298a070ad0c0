"""The trainer of a config: its data, model, optimizer and hooks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from unsam.checkpoint.checkpointer import Checkpointer
from unsam.config import config_text
from unsam.config.bounds import check_bounds
from unsam.data import ImageRecord, get_dataset
from unsam.data.loader import TrainLoader, build_train_loader
from unsam.data.task_sampler import AdaptiveTaskSampler
from unsam.engine import distributed, random_state
from unsam.engine.activation_checkpointing import checkpoint_activations
from unsam.engine.compilation import compile_model
from unsam.engine.ema import WeightAverage
from unsam.engine.hooks import (
    CheckpointHook,
    EvaluationHook,
    MetricsHook,
    MetricsLog,
    SamplesHook,
    spread,
)
from unsam.engine.hooks.evaluation import Evaluate
from unsam.engine.trainer import Hook, Trainer
from unsam.engine.writers import writer_makers
from unsam.modeling import SegmentationModel, build_model
from unsam.modeling.encoder_layers import encoder_distances
from unsam.modeling.granular_parts import freeze_all_but_granularity
from unsam.modeling.interactive import PromptKind
from unsam.modeling.precision import autocast_dtype
from unsam.modeling.training_model import TrainingModel
from unsam.solver import Schedule, build_optimizer, freeze

METRICS_FILE = "metrics.jsonl"
SAMPLES_FOLDER = "samples"
WEIGHTS_FILE = "model.safetensors"

logger = logging.getLogger(__name__)


def build_trainer(
    cfg: CfgNode,
    device: torch.device,
    checkpointer: Checkpointer,
    evaluate: Evaluate | None = None,
) -> Trainer:
    """Return the trainer of a config with its hooks, before its first step.

    Args:
        cfg: the merged config.
        device: of this process.
        checkpointer: where its checkpoints go.
        evaluate: what to do with the model each ``SOLVER.EVAL_PERIOD`` steps.

    Raises:
        UnsamError: a value out of its range, no data, a model that cannot be built, a batch size
            that cannot be dealt out.
    """
    check_bounds(cfg)
    datasets = [get_dataset(name, cfg.DATASETS.IMAGE_ROOT) for name in cfg.DATASETS.TRAIN]
    records = [record for dataset in datasets for record in dataset]
    tasks = _task_sampler(cfg, len(records))
    model = build_seeded_model(cfg, device)
    if cfg.MODEL.GRANULARITY.ENABLED and not cfg.MODEL.GRANULARITY.TRAIN_BASE:
        freeze_all_but_granularity(model)
    freeze(model, cfg.SOLVER.FREEZE)
    # What objectives learn starts alike on all ranks, too.
    random_state.seed_everything(cfg.SEED)
    training_model = TrainingModel.from_config(cfg, model).to(device)
    random_state.seed_everything(cfg.SEED, distributed.rank())
    distances = {f"model.{name}": layers for name, layers in encoder_distances(model).items()}
    optimizer = build_optimizer(cfg, training_model, distances)
    decay = cfg.SOLVER.EMA.DECAY
    average = WeightAverage(model, decay) if decay > 0 else None
    if cfg.SOLVER.ACTIVATION_CHECKPOINTING:
        checkpoint_activations(model)
    if cfg.SOLVER.COMPILE:
        compile_model(model)

    def make_loader(start: int) -> TrainLoader:
        return build_train_loader(
            cfg,
            records,
            lengths=[len(dataset) for dataset in datasets],
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            start=start,
            device=device,
            tasks=tasks,
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
        clock=cfg.SOLVER.CLOCK,
        accumulate=cfg.SOLVER.ACCUMULATE,
        clip_norm=cfg.SOLVER.CLIP_NORM,
        autocast=autocast_dtype(cfg.SOLVER.PRECISION, device, "SOLVER.PRECISION"),
        device=device,
        hooks=_hooks(cfg, checkpointer, evaluate, records),
        average=average,
        tasks=tasks,
        parallel=cfg.SOLVER.PARALLEL,
        seed=cfg.SEED,
    )


def build_seeded_model(cfg: CfgNode, device: torch.device) -> SegmentationModel:
    """Return the model of a config on `device`, with the same random weights on every rank."""
    # All ranks start from the same weights: the first rank's generator, then each its own again.
    random_state.seed_everything(cfg.SEED)
    model = build_model(cfg).to(device)
    random_state.seed_everything(cfg.SEED, distributed.rank())
    return model


def _task_sampler(cfg: CfgNode, num_photos: int) -> AdaptiveTaskSampler | None:
    if not cfg.TASKS.ENABLED:
        return None
    return AdaptiveTaskSampler(num_photos, len(PromptKind), **AdaptiveTaskSampler.from_config(cfg))


def _hooks(
    cfg: CfgNode,
    checkpointer: Checkpointer,
    evaluate: Evaluate | None,
    records: Sequence[ImageRecord],
) -> list[Hook]:
    output, period = Path(cfg.OUTPUT_DIR), cfg.LOGGING.SAMPLE_PERIOD
    log = MetricsLog(writer_makers(cfg, output / METRICS_FILE))
    hooks: list[Hook] = [
        MetricsHook(cfg.SOLVER.LOG_PERIOD, log),
        CheckpointHook(
            checkpointer, cfg.CHECKPOINT.PERIOD, config_text(cfg), output / WEIGHTS_FILE
        ),
    ]
    # After the checkpoint: a crash in the evaluation costs no training.
    if evaluate is not None and cfg.SOLVER.EVAL_PERIOD > 0:
        hooks.append(EvaluationHook(cfg.SOLVER.EVAL_PERIOD, evaluate, log))
    if period > 0:
        if cfg.DATASETS.TEST:
            records = get_dataset(cfg.DATASETS.TEST[0], cfg.DATASETS.IMAGE_ROOT)
        shown = spread(records, cfg.LOGGING.SAMPLE_PHOTOS)
        hooks.append(SamplesHook(period, shown, output / SAMPLES_FOLDER))
    return [*hooks, log]
