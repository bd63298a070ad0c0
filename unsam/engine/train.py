"""From a config to a trained or evaluated model: what ``train_net.py`` and ``unsam train`` run."""

from __future__ import annotations

import logging
import sys
import time
from functools import partial
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from torch import nn

from unsam.checkpoint.checkpointer import Checkpointer
from unsam.checkpoint.download import fetch_weights
from unsam.config import config_text, save_config
from unsam.engine import distributed, random_state
from unsam.engine.build import METRICS_FILE, WEIGHTS_FILE, build_seeded_model, build_trainer
from unsam.engine.evaluation import evaluate_and_report, evaluate_during_training
from unsam.engine.launch import STOPPED_CODES, check_num_processes, launch
from unsam.engine.run_log import logging_to
from unsam.engine.run_state import resume_newest
from unsam.engine.slurm import requeue_job
from unsam.engine.stop_signals import REQUEUE_SIGNAL, StoppedBySignalError
from unsam.errors import ConfigError, UnsamError
from unsam.modeling.pretrained import load_weights_into

CHECKPOINT_FOLDER = "checkpoints"
CONFIG_FILE = "config.yaml"
EVALUATION_CONFIG_FILE = "evaluation.yaml"
LOG_FILE = "log.txt"
_LAST_WORDS_SECONDS = 3.0

logger = logging.getLogger(__name__)


def launch_training(
    cfg: CfgNode,
    *,
    num_workers: int = 1,
    resume: bool = False,
    eval_only: bool = False,
    max_restarts: int = 0,
) -> Path:
    """Train the model of `cfg`, or evaluate it; here, or in worker processes started here.

    Under torchrun each of its processes calls this. ``OUTPUT_DIR`` receives ``config.yaml``,
    ``metrics.jsonl``, ``log.txt``, ``checkpoints/`` and, at the end, ``model.safetensors``; an
    evaluation writes ``evaluation.yaml``, ``results.json``, ``results.md``, ``report.html`` and, as
    it goes, ``photo_results/``, from which a rerun goes on.

    Args:
        cfg: the merged config, frozen or not; it is not changed.
        num_workers: processes to start, one per GPU, or on the CPU where there is none.
        resume: go on from the newest readable checkpoint in ``OUTPUT_DIR``; from the start if
            there is none.
        eval_only: evaluate ``MODEL.WEIGHTS`` (with `resume`, the newest checkpoint) on
            ``DATASETS.TEST`` and train nothing.
        max_restarts: how often to start the workers again when one of them fails; they go on from
            the newest checkpoint. Under torchrun, which restarts by itself, leave it at 0.

    Returns:
        The weights, ``model.safetensors``; with `eval_only` the file ``results.json``.

    Raises:
        UnsamError: whatever the user can mend; see the subclasses.
        SystemExit: with `num_workers` over 1 or `max_restarts`, a worker failed; it has said why.
    """
    check_num_processes(num_workers, cfg.DEVICE, max_restarts)
    if num_workers > 1 or max_restarts:
        _launch_and_restart(cfg, resume, eval_only, num_workers, max_restarts)
    else:
        _join_and_run(cfg, resume, eval_only)
    output = Path(cfg.OUTPUT_DIR)
    return output / ("results.json" if eval_only else WEIGHTS_FILE)


def _launch_and_restart(
    cfg: CfgNode, resume: bool, eval_only: bool, num_workers: int, max_restarts: int
) -> None:
    for restart in range(max_restarts + 1):
        try:
            launch(_join_and_run, (cfg, resume, eval_only), num_workers)
            return
        except SystemExit as error:
            # A wrong config stays wrong, and who stopped the run wants it stopped.
            final = error.code in (ConfigError.exit_code, *STOPPED_CODES)
            if final or restart == max_restarts:
                raise
        logger.warning("restart %d of %d, from the newest checkpoint", restart + 1, max_restarts)
        resume = resume or not eval_only


def _join_and_run(cfg: CfgNode, resume: bool, eval_only: bool) -> None:
    """Do the work of this process, whoever started it."""
    device = distributed.device_of_rank(cfg.DEVICE)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.initialize(device, cfg.SOLVER.TIMEOUT_MINUTES)
    # What torchrun has started again goes on like what `_launch_and_restart` has.
    resume = resume or (distributed.restarted() and not eval_only)
    try:
        with distributed.together():
            if distributed.is_main():
                _prepare_output(cfg, resume, eval_only)
        with logging_to(Path(cfg.OUTPUT_DIR) / LOG_FILE):
            random_state.seed_everything(cfg.SEED, distributed.rank())
            if eval_only:
                _evaluate_only(cfg, device, resume)
            else:
                _train(cfg, device, resume)
    except UnsamError as error:
        # All ranks know of it; one line of the main one is enough. The others wait for it to be
        # written: the first process to go takes its siblings with it.
        if distributed.concerns_every_rank(error) and not distributed.is_main():
            time.sleep(_LAST_WORDS_SECONDS)
            sys.exit(error.exit_code)
        raise
    distributed.shutdown()


def _prepare_output(cfg: CfgNode, resume: bool, eval_only: bool) -> None:
    """Save the config, unless that would touch a run that is not to be touched."""
    output = Path(cfg.OUTPUT_DIR)
    if eval_only:
        save_config(cfg, output / EVALUATION_CONFIG_FILE)
        return
    existing = Checkpointer(output / CHECKPOINT_FOLDER).paths()
    if existing and not resume:
        raise ConfigError(
            f"{output} holds a run already, up to {existing[-1].name}; add --resume to go on with "
            "it, or choose another OUTPUT_DIR"
        )
    for name in (CONFIG_FILE, METRICS_FILE, WEIGHTS_FILE):
        for left_by_a_kill in output.glob(f".{name}.*.tmp"):
            left_by_a_kill.unlink(missing_ok=True)
    if not existing:
        save_config(cfg, output / CONFIG_FILE)


def _train(cfg: CfgNode, device: torch.device, resume: bool) -> None:
    checkpointer = Checkpointer(Path(cfg.OUTPUT_DIR) / CHECKPOINT_FOLDER, cfg.CHECKPOINT.KEEP)
    with distributed.together():
        trainer = build_trainer(cfg, device, checkpointer, partial(evaluate_during_training, cfg))
    if resume and resume_newest(trainer, checkpointer, config_text(cfg)):
        # Only now is it sure that the run goes on with this config.
        with distributed.together():
            if distributed.is_main():
                save_config(cfg, Path(cfg.OUTPUT_DIR) / CONFIG_FILE)
    else:
        if resume:
            logger.info("no checkpoint in %s: starting from the beginning", checkpointer.folder)
        with distributed.together():
            _load_initial_weights(trainer.model, cfg)
            if trainer.average is not None:
                trainer.average.load_state_dict(trainer.model.state_dict())
    try:
        trainer.train()
    except StoppedBySignalError as stopped:
        if stopped.signal_number == REQUEUE_SIGNAL:
            # Together: the first process to go would take the one that asks Slurm with it.
            with distributed.together():
                if distributed.is_main():
                    requeue_job()
        raise


def _load_initial_weights(model: nn.Module, cfg: CfgNode) -> None:
    """Load what training starts from: a backbone, or a whole model."""
    if cfg.MODEL.BACKBONE.WEIGHTS:
        backbone = getattr(model, "backbone", None)
        if backbone is None:
            raise ConfigError(
                f"MODEL.BACKBONE.WEIGHTS: {cfg.MODEL.META_ARCHITECTURE} has no such backbone; use "
                "MODEL.WEIGHTS"
            )
        from unsam.modeling.backbone import load_backbone_weights

        load_backbone_weights(backbone, fetch_weights(cfg.MODEL.BACKBONE.WEIGHTS))
    if cfg.MODEL.WEIGHTS:
        load_weights_into(model, cfg.MODEL.WEIGHTS)


def _evaluate_only(cfg: CfgNode, device: torch.device, resume: bool) -> None:
    from unsam.evaluation.evaluation_loop import MODEL

    if cfg.EVALUATION.SEGMENTER != MODEL:
        evaluate_and_report(cfg, None)
        return
    weights: Path | str = cfg.MODEL.WEIGHTS
    if resume:
        with distributed.together():
            weights = _newest_checkpoint(Path(cfg.OUTPUT_DIR) / CHECKPOINT_FOLDER)
    with distributed.together():
        model = build_seeded_model(cfg, device)
        if weights:
            load_weights_into(model, weights)
    if weights:
        logger.info("evaluating %s", weights)
    elif distributed.is_main():
        logger.warning("MODEL.WEIGHTS is empty: evaluating a random initialisation")
    evaluate_and_report(cfg, model, weights)


def _newest_checkpoint(folder: Path) -> Path:
    paths = Checkpointer(folder).paths()
    if not paths:
        raise ConfigError(f"no checkpoint in {folder}; name one with MODEL.WEIGHTS, not --resume")
    return paths[-1]
