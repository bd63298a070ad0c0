"""One recipe dealt out to processes in many ways, for `test_layouts_agree`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode

from tests.engine.tiny import Recorder, make_trainer, tiny_cfg
from tests.modeling.conftest import tiny_cfg as tiny_model_cfg
from unsam.config import config_text
from unsam.engine import distributed
from unsam.engine.run_state import resume_newest

# Photos of very different numbers of masks. Four steps of six pass over the eight three times.
MASKS = [9, 0, 1, 20, 2, 0, 4, 3]
BATCH_SIZE = 6
STEPS = 4
STOP = 2


def layout_cfg(folder: Path, output: str, **solver: Any) -> CfgNode:
    """Return the recipe: a small GranularSam, two objectives, one of them with a teacher."""
    cfg = tiny_cfg(folder / "data" / "annotations.json", folder / output)
    cfg.MODEL = tiny_model_cfg().MODEL
    cfg.MODEL.CLICKS.BOX_PROBABILITY = 0.3
    cfg.MODEL.CLICKS.ROUNDS = 2
    cfg.OBJECTIVES.CONSISTENCY.WEIGHT = 1.0
    cfg.OBJECTIVES.CONSISTENCY.END = 0.0
    cfg.OBJECTIVES.CONTRAST.WEIGHT = 0.5
    cfg.OBJECTIVES.CONTRAST.PROJECTION_DIM = 8
    cfg.INPUT.IMAGE_SIZE = 48
    cfg.DATALOADER.MIN_MASK_AREA = 1
    cfg.SOLVER.BATCH_SIZE = BATCH_SIZE
    cfg.SOLVER.MAX_ITER = STEPS
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.SOLVER.EMA.DECAY = 0.9
    cfg.CHECKPOINT.PERIOD, cfg.CHECKPOINT.KEEP = STOP, 0
    for key, value in solver.items():
        setattr(cfg.SOLVER, key, value)
    return cfg


def train(folder: Path, output: str, resume: str = "", **solver: Any) -> dict[str, Any]:
    """Train from the start or from another run's checkpoint after `STOP` steps.

    Returns:
        Of this rank: ``losses`` by step, ``norms``, ``photos`` seen; ``model`` as it will be used.
    """
    cfg = layout_cfg(folder, output, **solver)
    recorder = Recorder()
    trainer, checkpointer = make_trainer(cfg, recorder)
    # What dropout draws follows the place of the micro-batch, not the sample.
    trainer.model.prompt_encoder.granularity.mlp.dropout = 0.0
    for group in trainer.optimizer.param_groups:
        # Adam makes a full step of the rounding errors of a gradient that should be zero.
        group["eps"] = 1e-3
    photos: list[str] = []
    count_targets = trainer.training_model.count_targets

    def count_and_note(batch: list[dict[str, Any]]) -> int:
        photos.extend(Path(sample["file_name"]).name for sample in batch)
        return count_targets(batch)

    trainer.training_model.count_targets = count_and_note  # type: ignore[assignment]
    if resume:
        if distributed.is_main():
            checkpointer.folder.mkdir(parents=True)
            name = f"iter_{STOP:08d}.pt"
            shutil.copy(folder / resume / "checkpoints" / name, checkpointer.folder / name)
        distributed.barrier()
        assert resume_newest(trainer, checkpointer, config_text(cfg))
    trainer.train()
    return {
        "losses": [step[1] for step in recorder.steps],
        "norms": [step[3] for step in recorder.steps],
        "photos": photos,
        "model": trainer.whole_model().state_dict(),
    }


RUNS: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "ddp_2x3": {},
        "ddp_2x1": {"ACCUMULATE": 3},
        "fsdp_2x1": {"PARALLEL": "fsdp", "ACCUMULATE": 3},
        "fsdp_from_ddp": {"PARALLEL": "fsdp", "resume": "ddp_2x3"},
        "ddp_from_fsdp": {"resume": "fsdp_2x1"},
    },
    3: {
        "three_from_two": {"resume": "fsdp_2x1"},
        "sharded_three_from_two": {"PARALLEL": "fsdp", "resume": "ddp_2x3"},
    },
}
"""By number of processes, the runs: their names and the keys of ``SOLVER`` that they change."""


def work(folder: Path) -> None:
    """Make the runs for this number of processes; write ``<run>_rank_<n>.pt`` for each."""
    torch.set_num_threads(1)
    distributed.initialize(torch.device("cpu"), timeout_minutes=1)
    for name, keys in RUNS[distributed.world_size()].items():
        result = train(folder, name, **keys)
        torch.save(result, folder / f"{name}_rank_{distributed.rank()}.pt")
    distributed.shutdown()
