"""What a run is made of beside its config: everything that a checkpoint saves and restores."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
import yaml

from unsam.checkpoint.checkpointer import Checkpointer, fit_model_weights, load_checkpoint
from unsam.engine import distributed, random_state
from unsam.engine.trainer import Trainer
from unsam.errors import CheckpointError

# Keys that may differ between the parts of one run without a word.
_FREE_KEYS = ("OUTPUT_DIR", "DEVICE", "DATALOADER.NUM_WORKERS", "CHECKPOINT", "EVALUATION")

logger = logging.getLogger(__name__)


def training_state(trainer: Trainer, config: str) -> dict[str, Any]:
    """Return the entries of a checkpoint; every rank must call this, for its generators.

    Args:
        trainer: between two steps.
        config: the merged config as YAML.
    """
    return {
        "model": trainer.model.state_dict(),
        "objectives": trainer.training_model.objectives.state_dict(),
        "average": {} if trainer.average is None else trainer.average.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": {"iteration": trainer.iteration, "seconds": trainer.seconds},
        "scaler": {},
        "sampler": {"position": trainer.position},
        "rng": distributed.gather(random_state.capture(trainer.device)),
        "iteration": trainer.iteration,
        "config": config,
    }


def resume_newest(trainer: Trainer, checkpointer: Checkpointer, config: str) -> bool:
    """Bring `trainer` to the newest readable checkpoint; False if there is none at all.

    Every rank must call this. The main one picks the file, all read it.

    Args:
        trainer: new, before its first step.
        checkpointer: where the checkpoints lie.
        config: the config of this run as YAML; keys that the run was started with otherwise are
            named in a warning, and the new ones hold.

    Raises:
        CheckpointError: none of the checkpoints can be read, or the model is another one.
    """
    path: Path | None = None
    state: dict[str, Any] = {}
    with distributed.together():
        if distributed.is_main() and (found := checkpointer.load_newest()):
            path, state = found
    path = distributed.gather(path)[0]
    if path is None:
        return False
    with distributed.together():
        state = state or load_checkpoint(path)
        _restore(trainer, state, path)
    if distributed.is_main():
        _warn_of_changes(state["config"], config)
    logger.info("resumed from %s, iteration %d", path, trainer.iteration)
    return True


def _restore(trainer: Trainer, state: dict[str, Any], path: Path) -> None:
    name = yaml.safe_load(state["config"])["MODEL"]["META_ARCHITECTURE"]
    fit_model_weights(trainer.model, state["model"], name=str(path), architecture=name)
    trainer.training_model.objectives.load_state_dict(state.get("objectives", {}))
    _restore_average(trainer, state.get("average", {}))
    _restore_optimizer(trainer.optimizer, state["optimizer"], path)
    trainer.iteration = state["iteration"]
    trainer.seconds = state["scheduler"]["seconds"]
    trainer.position = state["sampler"]["position"]
    states, rank = state["rng"], distributed.rank()
    if rank < len(states):
        random_state.restore(states[rank], trainer.device)
    if len(states) != distributed.world_size() and distributed.is_main():
        logger.warning(
            "saved by %d processes, resumed by %d: the photos go on in order, but random prompts "
            "will differ from an uninterrupted run",
            len(states),
            distributed.world_size(),
        )


def _restore_average(trainer: Trainer, saved: dict[str, Any]) -> None:
    """Take up the average where it was; one that is new to the run starts from the model."""
    if trainer.average is not None:
        trainer.average.load_state_dict(saved or trainer.model.state_dict())


def _restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any], path: Path) -> None:
    """Load the moments; rates and decays stay those of the new config."""
    own = optimizer.state_dict()["param_groups"]
    if [len(group["params"]) for group in own] != [
        len(group["params"]) for group in saved["param_groups"]
    ]:
        raise CheckpointError(
            f"{path}: its optimizer has other parameter groups; resume with the config of the run"
        )
    optimizer.load_state_dict({"state": saved["state"], "param_groups": own})


def _warn_of_changes(saved: str, current: str) -> None:
    old, new = _flat(yaml.safe_load(saved)), _flat(yaml.safe_load(current))
    changed = [
        f"{key} {old.get(key)} -> {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(_FREE_KEYS)
    ]
    if changed:
        logger.warning("the run was started with other values: %s", "; ".join(changed))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
