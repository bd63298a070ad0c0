"""What the config says about the optimizer and the memory reaches the trainer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.common.config import CfgNode

from tests.engine.tiny import Recorder, make_dataset, make_trainer, tiny_cfg
from tests.modeling.conftest import tiny_cfg as tiny_model_cfg
from unsam.engine.trainer import Trainer
from unsam.errors import ConfigError, TrainingError
from unsam.modeling.encoder_layers import encoder_blocks


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    annotations = make_dataset(tmp_path / "data", ["a.png", "b.png"])
    tiny = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=2)
    granular = tiny_model_cfg()
    tiny.MODEL = granular.MODEL
    return tiny


def test_frozen_and_slow_parameters(cfg: CfgNode) -> None:
    cfg.SOLVER.FREEZE = ("prompt_encoder.*",)
    cfg.SOLVER.BACKBONE_MULTIPLIER, cfg.SOLVER.LAYER_DECAY = 0.5, 0.9
    cfg.SOLVER.WARMUP_ITERS = 0
    trainer, _ = make_trainer(cfg)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    rates = {names[id(p)]: g["lr"] for g in trainer.optimizer.param_groups for p in g["params"]}
    assert rates["image_encoder.attention.0.qkv.weight"] == pytest.approx(0.01 * 0.5 * 0.9)
    assert rates["image_encoder.stem.0.weight"] == pytest.approx(0.01 * 0.5 * 0.9**5)
    assert rates["mask_decoder.hypernetwork.layers.0.weight"] == 0.01
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        frozen = name.startswith("prompt_encoder.")
        assert (name in rates) != frozen
        assert torch.equal(parameter, before[name]) == frozen, name
    assert trainer.learning_rate < 0.01


def test_checkpointed_activations_train_alike(cfg: CfgNode, tmp_path: Path) -> None:
    losses = []
    for switch in (False, True):
        cfg.SOLVER.ACTIVATION_CHECKPOINTING = switch
        cfg.OUTPUT_DIR = str(tmp_path / f"run_{switch}")
        recorder = Recorder()
        trainer, _ = make_trainer(cfg, recorder)
        trainer.train()
        assert encoder_blocks(trainer.model)
        losses.append([step[1] for step in recorder.steps])
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("CLOCK", "sun", "CLOCK is one of wall, cpu"),
        ("MAX_ITER", 0, r"SOLVER\.MAX_ITER is at least 1, got 0"),
        ("LAYER_DECAY", 2.0, r"SOLVER\.LAYER_DECAY .* got 2\.0"),
        ("FREEZE", ("encoder.*",), r"SOLVER\.FREEZE: 'encoder\.\*' matches no parameter"),
        ("SCHEDULE", "poly", r"SOLVER\.SCHEDULE is one of"),
        ("PRECISION", "float8", r"SOLVER\.PRECISION: unknown 'float8'"),
    ],
)
def test_bad_values_show_before_training(cfg: CfgNode, key: str, value: object, words: str) -> None:
    cfg.SOLVER[key] = value
    with pytest.raises(ConfigError, match=words):
        make_trainer(cfg)


def test_exhausted_memory_names_step_and_sizes(tmp_path: Path) -> None:
    annotations = make_dataset(tmp_path / "data", ["huge_1.png", "huge_2.png"], masks=[3, 5])
    trainer, _ = make_trainer(tiny_cfg(annotations, tmp_path / "run", MAX_ITER=2))
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    text = str(caught.value)
    assert text.startswith("iteration 1: out of memory on 2 photo(s) at once (")
    for words in ("with 3 masks", "with 5 masks", "SOLVER.ACCUMULATE", "SOLVER.BATCH_SIZE"):
        assert words in text
    assert "\n" not in text


def test_the_clock_of_the_budget(cfg: CfgNode, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = Trainer._fetch

    def wait_and_fetch(trainer: Trainer, batches: Any) -> Any:
        time.sleep(0.5)
        return fetch(trainer, batches)

    monkeypatch.setattr(Trainer, "_fetch", wait_and_fetch)
    spent = {}
    for clock in ("wall", "cpu"):
        cfg.SOLVER.CLOCK = clock
        cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR).parent / clock)
        trainer, _ = make_trainer(cfg)
        before = time.process_time()
        trainer.train()
        used = time.process_time() - before
        assert trainer.step_seconds > 0.5, "progress is told in seconds of the wall"
        spent[clock] = trainer.seconds
    assert spent["wall"] > 1.0
    assert 0 < spent["cpu"] <= used
