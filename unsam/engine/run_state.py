"""What a run is made of beside its config: everything that a checkpoint saves and restores."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
import yaml

from unsam.checkpoint.checkpointer import Checkpointer, fit_model_weights, load_checkpoint
from unsam.engine import distributed, random_state
from unsam.engine.parallel import whole_on_main
from unsam.engine.trainer import Trainer
from unsam.errors import CheckpointError, ConfigError

# Keys that may differ between the parts of one run without a word.
_FREE_KEYS = (
    "OUTPUT_DIR",
    "DEVICE",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.PARALLEL",
    "CHECKPOINT",
    "EVALUATION",
    "LOGGING",
)

# Keys of MODEL that may differ at all: how it is trained, and what a new run would start from.
_TRAINING_KEYS = ("MODEL.CLICKS.", "MODEL.WEIGHTS", "MODEL.BACKBONE.WEIGHTS")

logger = logging.getLogger(__name__)


def training_state(trainer: Trainer, config: str) -> dict[str, Any]:
    """Return the entries of a checkpoint; every rank must call this, for what each holds a part of.

    On ranks other than the main one the weights may be empty.

    Args:
        trainer: between two steps.
        config: the merged config as YAML.
    """
    return {
        "model": whole_on_main(trainer.model.state_dict()),
        "objectives": whole_on_main(trainer.training_model.objectives.state_dict()),
        "average": {} if trainer.average is None else trainer.average.state_dict(),
        "tasks": {} if trainer.tasks is None else trainer.tasks.state_dict(),
        "optimizer": whole_on_main(trainer.optimizer.state_dict()),
        "scheduler": {"iteration": trainer.iteration, "seconds": trainer.seconds},
        "scaler": trainer.scaler.state_dict(),
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
        config: the config of this run as YAML. Keys that the run was started with otherwise are
            named in a warning, and the new ones hold; but those of ``MODEL`` must not change.

    Raises:
        CheckpointError: none of the checkpoints can be read, or the model is another one.
        ConfigError: the config describes another model; `trainer` is unchanged.
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
        changes = _changes(state["config"], config)
        _refuse_another_model(changes, path)
        _restore(trainer, state, path)
    if changes and distributed.is_main():
        logger.warning("the run was started with other values: %s", "; ".join(changes))
    logger.info("resumed from %s, iteration %d", path, trainer.iteration)
    return True


def _restore(trainer: Trainer, state: dict[str, Any], path: Path) -> None:
    name = yaml.safe_load(state["config"])["MODEL"]["META_ARCHITECTURE"]
    fit_model_weights(trainer.model, state["model"], name=str(path), architecture=name)
    _restore_objectives(trainer, state.get("objectives", {}), path)
    _restore_average(trainer, state.get("average", {}))
    _restore_optimizer(trainer.optimizer, state["optimizer"], path)
    if state["scaler"]:
        trainer.scaler.load_state_dict(state["scaler"])
    trainer.iteration = state["iteration"]
    if trainer.tasks is not None:
        trainer.tasks.load_state_dict(state.get("tasks", {}), trainer.iteration)
    trainer.seconds = state["scheduler"]["seconds"]
    trainer.position = state["sampler"]["position"]
    states, rank = state["rng"], distributed.rank()
    if rank < len(states):
        random_state.restore(states[rank], trainer.device)
    if len(states) != distributed.world_size() and distributed.is_main():
        logger.warning(
            "saved by %d processes, resumed by %d: photos, views and prompts are those of an "
            "uninterrupted run, sums are rounded in another order",
            len(states),
            distributed.world_size(),
        )


def _restore_objectives(trainer: Trainer, saved: dict[str, Any], path: Path) -> None:
    try:
        trainer.training_model.objectives.load_state_dict(saved)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: what its objectives have learnt does not fit those of this run; resume with "
            "the OBJECTIVES of the run"
        ) from error


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


def _changes(saved: str, current: str) -> list[str]:
    """Return ``KEY old -> new`` of each key that differs and matters.

    A key of one of them only has come or gone with a version of this program.
    """
    old, new = _flat(yaml.safe_load(saved)), _flat(yaml.safe_load(current))
    return [
        f"{key} {old[key]} -> {new[key]}"
        for key in sorted(old.keys() & new.keys())
        if old[key] != new[key] and not key.startswith(_FREE_KEYS)
    ]


def _refuse_another_model(changes: list[str], path: Path) -> None:
    breaking = [
        change
        for change in changes
        if change.startswith("MODEL.") and not change.startswith(_TRAINING_KEYS)
    ]
    if breaking:
        raise ConfigError(
            f"{path} is of another model: {'; '.join(breaking)}; resume with the config.yaml of "
            "the run, or choose another OUTPUT_DIR"
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
