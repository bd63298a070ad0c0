"""Pictures of what the model makes of some photos."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.engine.equality import same
from tests.engine.tiny import Recorder, make_trainer, tiny_cfg
from tests.modeling.conftest import tiny_cfg as tiny_model_cfg
from unsam.engine import random_state
from unsam.engine.hooks import SamplesHook, spread


def real_model_cfg(annotations: Path, output: Path) -> Any:
    cfg = tiny_cfg(annotations, output, MAX_ITER=4)
    cfg.MODEL = tiny_model_cfg().MODEL
    cfg.INFERENCE = tiny_model_cfg().INFERENCE
    cfg.LOGGING.SAMPLE_PHOTOS = 2
    return cfg


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_pictures_are_drawn_and_training_goes_on_as_if_they_were_not(
    annotations: Path, tmp_path: Path, decay: float
) -> None:
    runs = []
    for period in (0, 2):
        recorder = Recorder()
        cfg = real_model_cfg(annotations, tmp_path / str(period))
        cfg.LOGGING.SAMPLE_PERIOD = period
        cfg.SOLVER.EMA.DECAY = decay
        trainer, _ = make_trainer(cfg, recorder)
        trainer.train()
        runs.append(
            (recorder.steps, trainer.model.state_dict(), random_state.capture(trainer.device))
        )
    assert same(*runs)
    assert not (tmp_path / "0" / "samples").exists()
    folder = tmp_path / "2" / "samples"
    assert sorted(os.listdir(folder)) == [
        f"iter_0000000{iteration}_{photo}.png" for iteration in (2, 4) for photo in ("a", "b")
    ]
    # Targets above answers: the photo and three levels of 320 pixels, 6 between them.
    picture = np.asarray(Image.open(folder / "iter_00000004_a.png"))
    assert picture.shape == (2 * 240 + 6, 4 * 320 + 3 * 6, 3)


def test_photo_that_cannot_be_drawn_is_a_warning(
    annotations: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (annotations.parent / "a.png").write_bytes(b"broken")
    cfg = real_model_cfg(annotations, tmp_path / "run")
    cfg.SOLVER.MAX_ITER = 1
    cfg.LOGGING.SAMPLE_PERIOD = 1
    trainer, _ = make_trainer(cfg)
    hook = next(hook for hook in trainer.hooks if isinstance(hook, SamplesHook))
    trainer.iteration = 1
    with caplog.at_level(logging.WARNING, "unsam"):
        hook.after_step(trainer)
    assert os.listdir(tmp_path / "run" / "samples") == ["iter_00000001_b.png"]
    (record,) = caplog.records
    assert "iter_00000001_a.png is not drawn" in record.getMessage()


def test_photos_are_taken_from_all_over_the_set() -> None:
    records: list[Any] = [SimpleNamespace(number=number) for number in range(10)]
    assert [record.number for record in spread(records, 4)] == [0, 2, 5, 7]
    assert spread(records, 20) == records
    assert spread(records, 0) == []
