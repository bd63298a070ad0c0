"""Training in fewer bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.engine.tiny import Recorder, make_dataset, make_trainer, tiny_cfg


def test_bfloat16_trains(tmp_path: Path) -> None:
    recorder = Recorder()
    annotations = make_dataset(tmp_path / "data", ["a.png", "b.png", "c.png"])
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=2, PRECISION="bfloat16")
    make_trainer(cfg, recorder)[0].train()
    assert np.isfinite([step[1]["loss_mask"] for step in recorder.steps]).all()
