"""From a config to a trained or evaluated model: what ``train_net.py`` and ``unsam train`` run."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

import torch
from fvcore.common.config import CfgNode
from torch import nn

from unsam.checkpoint.checkpointer import Checkpointer, load_model_weights
from unsam.config import config_text, save_config
from unsam.engine import distributed, random_state
from unsam.engine.build import WEIGHTS_FILE, build_seeded_model, build_trainer
from unsam.engine.launch import check_num_processes, launch
from unsam.engine.run_state import resume_newest
from unsam.errors import ConfigError, UnsamError

CHECKPOINT_FOLDER = "checkpoints"
CONFIG_FILE = "config.yaml"
LOG_FILE = "log.txt"

logger = logging.getLogger(__name__)


def launch_training(
    cfg: CfgNode, *, num_workers: int = 1, resume: bool = False, eval_only: bool = False
) -> Path:
    """Train the model of `cfg`, or evaluate it; here, or in worker processes started here.

    Under torchrun each of its processes calls this. ``OUTPUT_DIR`` receives ``config.yaml``,
    ``metrics.jsonl``, ``log.txt``, ``checkpoints/`` and, at the end, ``model.safetensors``; an
    evaluation writes ``results.json`` and ``results.md``.

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
        launch(_work, (cfg, resume, eval_only), num_workers)
    else:
        _join_and_run(cfg, resume, eval_only)
    output = Path(cfg.OUTPUT_DIR)
    return output / ("results.json" if eval_only else WEIGHTS_FILE)


def _work(cfg: CfgNode, resume: bool, eval_only: bool) -> None:
    """Be one of the workers that `launch` started."""
    try:
        _join_and_run(cfg, resume, eval_only)
    except UnsamError as error:
        sys.stderr.write(f"unsam: error: {' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)


def _join_and_run(cfg: CfgNode, resume: bool, eval_only: bool) -> None:
    device = distributed.resolve_device(cfg.DEVICE)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.initialize(device, cfg.SOLVER.TIMEOUT_MINUTES)
    try:
        _prepare_output(cfg)
        random_state.seed_everything(cfg.SEED, distributed.rank())
        if eval_only:
            _evaluate_only(cfg, device, resume)
        else:
            _train(cfg, device, resume)
    except UnsamError as error:
        # All ranks know of it; one line of the main one is enough.
        if distributed.concerns_every_rank(error) and not distributed.is_main():
            sys.exit(error.exit_code)
        raise
    distributed.shutdown()


def _prepare_output(cfg: CfgNode) -> None:
    """Make the output folder, save the config in it and send the log there."""
    output = Path(cfg.OUTPUT_DIR)
    with distributed.together():
        if distributed.is_main():
            save_config(cfg, output / CONFIG_FILE)
    _set_up_logging(output / LOG_FILE if distributed.is_main() else None)


def _set_up_logging(log_file: Path | None) -> None:
    """Send this package's log to stdout and to a file, warnings to stderr; others' warnings only.

    Args:
        log_file: appended to; None (every rank but the main one) logs warnings only.
    """
    package = logging.getLogger("unsam")
    for handler in list(package.handlers):
        package.removeHandler(handler)
        handler.close()
    package.propagate = False
    line = logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [warnings]
    if log_file is not None:
        package.setLevel(logging.INFO)
        screen = logging.StreamHandler(sys.stdout)
        screen.addFilter(lambda record: record.levelno < logging.WARNING)
        handlers += [screen, logging.FileHandler(log_file, encoding="utf-8")]
    else:
        package.setLevel(logging.WARNING)
    for handler in handlers:
        handler.setFormatter(line)
        package.addHandler(handler)


def _train(cfg: CfgNode, device: torch.device, resume: bool) -> None:
    output = Path(cfg.OUTPUT_DIR)
    checkpointer = Checkpointer(output / CHECKPOINT_FOLDER, cfg.CHECKPOINT.KEEP)
    existing = checkpointer.paths()
    if existing and not resume:
        raise ConfigError(
            f"{output} holds a run already, up to {existing[-1].name}; add --resume to go on with "
            "it, or choose another OUTPUT_DIR"
        )
    with distributed.together():
        trainer = build_trainer(cfg, device, checkpointer, partial(_evaluate, cfg))
    resumed = resume and resume_newest(trainer, checkpointer, config_text(cfg))
    if not resumed:
        if resume:
            logger.info("no checkpoint in %s: starting from the beginning", checkpointer.folder)
        if cfg.MODEL.WEIGHTS:
            with distributed.together():
                load_model_weights(trainer.model, cfg.MODEL.WEIGHTS)
    trainer.train()


def _evaluate_only(cfg: CfgNode, device: torch.device, resume: bool) -> None:
    from unsam.evaluation.evaluation_loop import MODEL

    if cfg.EVALUATION.SEGMENTER != MODEL:
        _evaluate(cfg, None)
        return
    weights: Path | str = cfg.MODEL.WEIGHTS
    if resume:
        paths = Checkpointer(Path(cfg.OUTPUT_DIR) / CHECKPOINT_FOLDER).paths()
        weights = paths[-1] if paths else weights
    with distributed.together():
        model = build_seeded_model(cfg, device)
        if weights:
            load_model_weights(model, weights)
    if distributed.is_main():
        logger.log(
            logging.INFO if weights else logging.WARNING,
            "evaluating %s",
            weights or "a random initialisation, as MODEL.WEIGHTS is empty",
        )
    _evaluate(cfg, model)


def _evaluate(cfg: CfgNode, model: nn.Module | None) -> None:
    """Evaluate a model, or (None) the baseline that the config names; the main rank writes."""
    from unsam.evaluation import evaluate, format_results, write_results
    from unsam.inference import Segmenter

    segmenter = None if model is None else Segmenter(model.eval())
    results = evaluate(cfg, segmenter)
    with distributed.together():
        if distributed.is_main():
            about = {"segmenter": cfg.EVALUATION.SEGMENTER, "weights": cfg.MODEL.WEIGHTS}
            write_results(results, cfg.OUTPUT_DIR, about)
    logger.info("%s", format_results(results))
