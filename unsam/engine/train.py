"""From a config to a trained or evaluated model: what ``train_net.py`` and ``unsam train`` run."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from torch import nn

from unsam.checkpoint.checkpointer import Checkpointer
from unsam.checkpoint.download import fetch_weights
from unsam.config import config_text, save_config
from unsam.engine import distributed, random_state
from unsam.engine.build import WEIGHTS_FILE, build_seeded_model, build_trainer
from unsam.engine.launch import check_num_processes, launch
from unsam.engine.run_state import resume_newest
from unsam.errors import ConfigError, UnsamError
from unsam.modeling import SegmentationModel
from unsam.modeling.pretrained import load_weights_into

CHECKPOINT_FOLDER = "checkpoints"
CONFIG_FILE = "config.yaml"
EVALUATION_CONFIG_FILE = "evaluation.yaml"
LOG_FILE = "log.txt"
_LAST_WORDS_SECONDS = 3.0

logger = logging.getLogger(__name__)


def launch_training(
    cfg: CfgNode, *, num_workers: int = 1, resume: bool = False, eval_only: bool = False
) -> Path:
    """Train the model of `cfg`, or evaluate it; here, or in worker processes started here.

    Under torchrun each of its processes calls this. ``OUTPUT_DIR`` receives ``config.yaml``,
    ``metrics.jsonl``, ``log.txt``, ``checkpoints/`` and, at the end, ``model.safetensors``; an
    evaluation writes ``evaluation.yaml``, ``results.json`` and ``results.md``.

    Args:
        cfg: the merged config, frozen or not; it is not changed.
        num_workers: processes to start, one per GPU, or on the CPU where there is none.
        resume: go on from the newest readable checkpoint in ``OUTPUT_DIR``; from the start if
            there is none.
        eval_only: evaluate ``MODEL.WEIGHTS`` (with `resume`, the newest checkpoint) on
            ``DATASETS.TEST`` and train nothing.

    Returns:
        The weights, ``model.safetensors``; with `eval_only` the file ``results.json``.

    Raises:
        UnsamError: whatever the user can mend; see the subclasses.
        SystemExit: with `num_workers` over 1, a worker failed; it has said why.
    """
    check_num_processes(num_workers, cfg.DEVICE)
    if num_workers > 1:
        launch(_join_and_run, (cfg, resume, eval_only), num_workers)
    else:
        _join_and_run(cfg, resume, eval_only)
    output = Path(cfg.OUTPUT_DIR)
    return output / ("results.json" if eval_only else WEIGHTS_FILE)


def _join_and_run(cfg: CfgNode, resume: bool, eval_only: bool) -> None:
    """Do the work of this process, whoever started it."""
    device = distributed.device_of_rank(cfg.DEVICE)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.initialize(device, cfg.SOLVER.TIMEOUT_MINUTES)
    try:
        with distributed.together():
            if distributed.is_main():
                _prepare_output(cfg, resume, eval_only)
        with _logging_to(Path(cfg.OUTPUT_DIR) / LOG_FILE):
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
    existing = Checkpointer(output / CHECKPOINT_FOLDER).paths()
    if existing and not (resume or eval_only):
        raise ConfigError(
            f"{output} holds a run already, up to {existing[-1].name}; add --resume to go on with "
            "it, or choose another OUTPUT_DIR"
        )
    save_config(cfg, output / (EVALUATION_CONFIG_FILE if eval_only else CONFIG_FILE))


@contextlib.contextmanager
def _logging_to(log_file: Path) -> Iterator[None]:
    """Log to stdout and a file, warnings to stderr instead of stdout; other ranks: warnings only.

    Args:
        log_file: appended to, by the main rank.
    """
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [warnings]
    if distributed.is_main():
        screen = logging.StreamHandler(sys.stdout)
        screen.addFilter(lambda record: record.levelno < logging.WARNING)
        handlers += [screen, logging.FileHandler(log_file, encoding="utf-8")]
    package = logging.getLogger("unsam")
    before = package.level
    package.setLevel(logging.INFO if distributed.is_main() else logging.WARNING)
    for handler in handlers:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
        )
        package.addHandler(handler)
    try:
        yield
    finally:
        package.setLevel(before)
        for handler in handlers:
            package.removeHandler(handler)
            handler.close()


def _train(cfg: CfgNode, device: torch.device, resume: bool) -> None:
    checkpointer = Checkpointer(Path(cfg.OUTPUT_DIR) / CHECKPOINT_FOLDER, cfg.CHECKPOINT.KEEP)
    with distributed.together():
        trainer = build_trainer(cfg, device, checkpointer, partial(_evaluate, cfg))
    resumed = resume and resume_newest(trainer, checkpointer, config_text(cfg))
    if not resumed:
        if resume:
            logger.info("no checkpoint in %s: starting from the beginning", checkpointer.folder)
        with distributed.together():
            _load_initial_weights(trainer.model, cfg)
            if trainer.average is not None:
                trainer.average.load_state_dict(trainer.model.state_dict())
    trainer.train()


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
        _evaluate(cfg, None)
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
    _evaluate(cfg, model, weights)


def _newest_checkpoint(folder: Path) -> Path:
    paths = Checkpointer(folder).paths()
    if not paths:
        raise ConfigError(f"no checkpoint in {folder}; name one with MODEL.WEIGHTS, not --resume")
    return paths[-1]


def _evaluate(cfg: CfgNode, model: SegmentationModel | None, weights: Path | str = "") -> None:
    """Evaluate a model, or (None) the baseline that the config names; the main rank writes."""
    from unsam.evaluation import evaluate, format_results, write_results
    from unsam.inference import Segmenter

    segmenter = None
    if model is not None:
        segmenter = Segmenter(model, next(model.parameters()).device)
    # An evaluation fails on all ranks or on none.
    with distributed.together():
        results = evaluate(cfg, segmenter)
        if distributed.is_main():
            about = {"segmenter": cfg.EVALUATION.SEGMENTER, "weights": str(weights)}
            write_results(results, cfg.OUTPUT_DIR, about)
    logger.info("%s", format_results(results))
