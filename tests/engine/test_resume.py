"""A run that stops and resumes ends in exactly the state of one that never stopped."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.equality import same
from tests.engine.tiny import Recorder, SignalAt, make_dataset, make_trainer, tiny_cfg
from tests.modeling.conftest import tiny_cfg as tiny_model_cfg
from unsam.checkpoint.checkpointer import load_checkpoint
from unsam.config import config_text
from unsam.engine.run_state import _changes, resume_newest
from unsam.engine.stop_signals import StoppedBySignalError
from unsam.engine.train import launch_training
from unsam.errors import CheckpointError, ConfigError

# Five photos in batches of two: a pass ends in the middle of step 3 and at the end of step 5.
PHOTOS = [f"photo_{number}.png" for number in range(5)]
STEPS = 7


# What a checkpoint holds beside the clock and the config.
STATE = (
    "model",
    "objectives",
    "average",
    "tasks",
    "optimizer",
    "scaler",
    "sampler",
    "rng",
    "iteration",
)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"), PHOTOS)


def run_cfg(annotations: Path, output: Path, rich: bool) -> Any:
    """Return a plain run, or one with accumulation, an average and two weighted sets of photos."""
    cfg = tiny_cfg(annotations, output, MAX_ITER=STEPS, ACCUMULATE=2 if rich else 1)
    if rich:
        cfg.SOLVER.EMA.DECAY = 0.9
        cfg.DATASETS.TRAIN = (str(annotations), str(annotations))
        cfg.DATASETS.WEIGHTS = (1.0, 2.0)
    return cfg


@pytest.fixture(scope="module")
def uninterrupted(
    annotations: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, tuple[dict[str, Any], list[Any]]]:
    """Final checkpoint and the steps' numbers of straight runs, plain and rich."""
    runs = {}
    for rich in (False, True):
        recorder = Recorder()
        cfg = run_cfg(annotations, tmp_path_factory.mktemp("straight"), rich)
        trainer, checkpointer = make_trainer(cfg, recorder)
        trainer.train()
        runs[rich] = (load_checkpoint(checkpointer.paths()[-1]), recorder.steps)
    return runs


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("rich", [False, True])
@pytest.mark.parametrize("stop", [1, 2, 3, 5, 6])
def test_resumed_run_equals_uninterrupted_run(
    annotations: Path, uninterrupted: Any, tmp_path: Path, stop: int, rich: bool, workers: int
) -> None:
    straight, straight_steps = uninterrupted[rich]
    cfg = run_cfg(annotations, tmp_path, rich)
    cfg.DATALOADER.NUM_WORKERS = workers
    recorder = Recorder()
    trainer, _ = make_trainer(cfg, recorder, SignalAt(stop))
    with pytest.raises(StoppedBySignalError):
        trainer.train()
    torch.rand(3)  # a new process would start from anywhere

    trainer, checkpointer = make_trainer(cfg, recorder)
    assert resume_newest(trainer, checkpointer, config_text(cfg))
    assert trainer.iteration == stop
    trainer.train()

    final = load_checkpoint(checkpointer.paths()[-1])
    for key in STATE:
        assert same(final[key], straight[key]), key
    assert final["scheduler"]["iteration"] == STEPS
    assert recorder.steps == straight_steps
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [line["iteration"] for line in lines] == list(range(1, STEPS + 1))


def test_real_model_with_every_objective_and_adaptive_tasks(
    annotations: Path, tmp_path: Path
) -> None:
    cfg = tiny_cfg(annotations, tmp_path / "straight", MAX_ITER=5)
    cfg.MODEL = tiny_model_cfg().MODEL
    cfg.SOLVER.EMA.DECAY = 0.9
    cfg.CHECKPOINT.PERIOD, cfg.CHECKPOINT.KEEP = 1, 0
    cfg.TASKS.ENABLED, cfg.TASKS.START, cfg.TASKS.REFRESH_PERIOD = True, 0.0, 1
    for objective in cfg.OBJECTIVES.values():
        objective.WEIGHT, objective.START = 0.1, 0.0
    trainer, checkpointer = make_trainer(cfg)
    trainer.train()
    straight = load_checkpoint(checkpointer.paths()[-1])
    assert straight["tasks"]
    assert straight["objectives"]
    for stop in (1, 3):
        cfg.OUTPUT_DIR = str(tmp_path / f"from_{stop}")
        folder = tmp_path / f"from_{stop}" / "checkpoints"
        folder.mkdir(parents=True)
        shutil.copy(checkpointer.paths()[stop - 1], folder)
        trainer, resumed = make_trainer(cfg)
        assert resume_newest(trainer, resumed, config_text(cfg))
        assert trainer.iteration == stop
        trainer.train()
        final = load_checkpoint(resumed.paths()[-1])
        for key in STATE:
            assert same(final[key], straight[key]), (stop, key)


def test_crash_between_checkpoints_repeats_the_lost_steps(
    annotations: Path, uninterrupted: Any, tmp_path: Path
) -> None:
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=STEPS)
    cfg.CHECKPOINT.PERIOD = 2

    class Crash(Recorder):
        def after_step(self, trainer: Any) -> None:
            if trainer.iteration == 5:
                raise KeyError("crash")

    trainer, _ = make_trainer(cfg, Crash())
    with pytest.raises(KeyError):
        trainer.train()
    trainer, checkpointer = make_trainer(cfg)
    resume_newest(trainer, checkpointer, config_text(cfg))
    assert trainer.iteration == 4
    trainer.train()
    assert same(
        load_checkpoint(checkpointer.paths()[-1])["model"], uninterrupted[False][0]["model"]
    )
    lines = [json.loads(line)["iteration"] for line in (tmp_path / "metrics.jsonl").open()]
    assert lines == list(range(1, STEPS + 1))


def test_finished_run_has_nothing_left_and_a_longer_one_goes_on(
    annotations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=2)
    make_trainer(cfg)[0].train()
    recorder = Recorder()
    trainer, checkpointer = make_trainer(cfg, recorder)
    resume_newest(trainer, checkpointer, config_text(cfg))
    trainer.train()
    assert recorder.steps == []

    cfg.SOLVER.MAX_ITER = 4
    cfg.SOLVER.BASE_LR = 0.5
    trainer, checkpointer = make_trainer(cfg, recorder)
    logging.getLogger("unsam").propagate = True
    with caplog.at_level(logging.WARNING, "unsam"):
        resume_newest(trainer, checkpointer, config_text(cfg))
    trainer.train()
    assert [step[0] for step in recorder.steps] == [3, 4]
    assert "SOLVER.BASE_LR 0.01 -> 0.5; SOLVER.MAX_ITER 2 -> 4" in caplog.text
    assert recorder.steps[0][2] > 0.1, "the new base rate holds"


def test_truncated_newest_checkpoint_falls_back_to_the_one_before(
    annotations: Path, uninterrupted: Any, tmp_path: Path
) -> None:
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=STEPS)
    cfg.CHECKPOINT.PERIOD, cfg.CHECKPOINT.KEEP = 2, 0
    trainer, checkpointer = make_trainer(cfg)
    trainer.train()
    for path in checkpointer.paths()[-2:]:
        path.write_bytes(path.read_bytes()[:1000])
    trainer, checkpointer = make_trainer(cfg)
    resume_newest(trainer, checkpointer, config_text(cfg))
    assert trainer.iteration == 4
    trainer.train()
    assert same(
        load_checkpoint(checkpointer.paths()[-1])["model"], uninterrupted[False][0]["model"]
    )


def test_another_architecture_is_refused(annotations: Path, tmp_path: Path) -> None:
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=1)
    trainer, checkpointer = make_trainer(cfg)
    trainer.train()
    trainer, _ = make_trainer(cfg)
    trainer.model.head = torch.nn.Linear(8, 1)
    with pytest.raises(CheckpointError, match=r"0 missing, 0 left over, 1 of another shape"):
        resume_newest(trainer, checkpointer, config_text(cfg))


def test_other_objectives_are_refused_in_one_line(annotations: Path, tmp_path: Path) -> None:
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=1)
    cfg.MODEL = tiny_model_cfg().MODEL
    make_trainer(cfg)[0].train()
    cfg.OBJECTIVES.CONTRAST.WEIGHT = 1.0
    trainer, checkpointer = make_trainer(cfg)
    with pytest.raises(CheckpointError, match="resume with the OBJECTIVES of the run") as caught:
        resume_newest(trainer, checkpointer, config_text(cfg))
    assert "\n" not in str(caught.value)


def test_another_model_in_the_config_is_refused_before_anything_is_touched(
    annotations: Path, tmp_path: Path
) -> None:
    cfg = tiny_cfg(annotations, tmp_path, MAX_ITER=1)
    launch_training(cfg)
    before = (tmp_path / "config.yaml").read_text()
    cfg.MODEL.EMBED_DIM = 64
    with pytest.raises(ConfigError, match=r"another model: MODEL.EMBED_DIM 128 -> 64; resume with"):
        launch_training(cfg, resume=True)
    assert (tmp_path / "config.yaml").read_text() == before
    cfg.MODEL.EMBED_DIM = 128
    # What a new run would start from, and how clicks are drawn, is no part of the model.
    cfg.MODEL.WEIGHTS = "/no/where.pt"
    cfg.MODEL.CLICKS.ROUNDS = 1
    cfg.SOLVER.MAX_ITER = 2
    launch_training(cfg, resume=True)
    assert "MAX_ITER: 2" in (tmp_path / "config.yaml").read_text()
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match=r"/no/where\.pt"):
        launch_training(cfg, resume=True)


def test_config_key_of_another_version_is_no_change() -> None:
    old = "MODEL: {META_ARCHITECTURE: Sam, OLD_KEY: 1, WIDTH: 2}"
    new = "MODEL: {META_ARCHITECTURE: Sam, NEW_KEY: 1, WIDTH: 3}"
    assert _changes(old, new) == ["MODEL.WIDTH 2 -> 3"]
