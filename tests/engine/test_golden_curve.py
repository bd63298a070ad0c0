"""Fifty steps of a small GranularSam on real photos give the losses that are on file.

After a change that is meant to move them: ``python -m tests.engine.test_golden_curve DATA_ROOT``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from tests.engine.tiny import Recorder, make_trainer, tiny_cfg
from tests.modeling.conftest import tiny_cfg as tiny_model_cfg

GOLDEN = Path(__file__).with_name("golden_curve.json")
STEPS = 50


def curve(data_root: Path, output: Path, steps: int = STEPS) -> list[float]:
    """Return the summed loss of each step, in float32 on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    photos = data_root / "sa1b_layout"
    cfg = tiny_cfg(photos / "none.json", output, MAX_ITER=STEPS, BATCH_SIZE=2, BASE_LR=0.002)
    cfg.DATASETS.TRAIN = (str(photos),)
    cfg.DATASETS.IMAGE_ROOT = ""
    cfg.DATALOADER.MAX_MASKS = 16
    cfg.MODEL = tiny_model_cfg().MODEL
    cfg.MODEL.CLICKS.ROUNDS = 2
    cfg.INPUT.IMAGE_SIZE = 64
    recorder = Recorder()
    try:
        trainer, _ = make_trainer(cfg, recorder)
        trainer.max_iter = steps
        trainer.train()
    finally:
        torch.set_num_threads(threads)
    return [
        sum(value for name, value in losses.items() if name.startswith("loss_"))
        for _, losses, _, _ in recorder.steps
    ]


def test_fifty_steps_follow_the_curve_on_file(data_root: Path, tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text())
    losses = curve(data_root, tmp_path)
    # Processors differ in the order of their sums.
    assert losses == pytest.approx(golden, rel=1e-4)
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10]), "it learns"


def test_a_repeated_run_is_equal_to_the_last_bit(data_root: Path, tmp_path: Path) -> None:
    first, second = (curve(data_root, tmp_path / name, steps=5) for name in ("first", "second"))
    assert first == second


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(json.dumps(curve(Path(sys.argv[1]), Path(folder)), indent=1) + "\n")
