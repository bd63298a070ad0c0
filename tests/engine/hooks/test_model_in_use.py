"""Using the model in the middle of its training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.engine.tiny import make_trainer, tiny_cfg
from unsam.engine.hooks.model_in_use import model_in_use


def test_every_part_gets_its_mode_back_even_after_an_error(
    annotations: Path, tmp_path: Path
) -> None:
    trainer, _ = make_trainer(tiny_cfg(annotations, tmp_path / "run"))
    trainer.model.train()
    trainer.model.norm.eval()
    before = torch.get_rng_state()
    with pytest.raises(KeyError), model_in_use(trainer) as model:
        assert not any(module.training for module in model.modules())
        torch.rand(())
        raise KeyError
    assert not trainer.model.norm.training
    assert trainer.model.training
    assert trainer.model.head.training
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_the_average_where_there_is_one(annotations: Path, tmp_path: Path) -> None:
    cfg = tiny_cfg(annotations, tmp_path / "run")
    cfg.SOLVER.EMA.DECAY = 0.9
    trainer, _ = make_trainer(cfg)
    assert trainer.average is not None
    with model_in_use(trainer) as model:
        assert model is trainer.average.model
