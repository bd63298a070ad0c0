"""Checkpoints that cannot be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import make_trainer, tiny_cfg
from unsam.checkpoint.atomic import StorageError


def test_full_disk_during_a_checkpoint_ends_the_run_in_one_line(
    annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = tiny_cfg(annotations, tmp_path / "run", MAX_ITER=4)
    cfg.CHECKPOINT.PERIOD = 1
    trainer, checkpointer = make_trainer(cfg)
    real = checkpointer.save

    def save(state: dict[str, Any]) -> Path:
        if state["iteration"] == 3:
            raise StorageError("cannot write: No space left on device")
        return real(state)

    monkeypatch.setattr(checkpointer, "save", save)
    with pytest.raises(StorageError, match="No space left"):
        trainer.train()
    assert [path.name for path in checkpointer.paths()] == ["iter_00000001.pt", "iter_00000002.pt"]
