"""Curves for TensorBoard."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.writers.stand_ins import install_tensorboard
from unsam.engine.writers import TensorboardWriter


def test_resumed_run_hides_the_steps_that_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = install_tensorboard(monkeypatch)
    writer = TensorboardWriter(tmp_path / "tensorboard", 40)
    writer.write({"iteration": 60, "loss": 0.5, "eval/set/AR@10": 0.25})
    writer.close()
    assert calls == [
        ("open", str(tmp_path / "tensorboard"), 41),
        ("loss", 0.5, 60),
        ("eval/set/AR@10", 0.25, 60),
        ("flush",),
        ("close",),
    ]
