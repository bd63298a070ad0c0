"""The run of Weights & Biases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.writers.stand_ins import install_wandb
from unsam.engine.writers import WandbWriter


def test_resumed_training_goes_on_with_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = install_wandb(monkeypatch)
    for start in (0, 40, 0):
        WandbWriter(tmp_path, start, name="first try")
    first, resumed, anew = (settings for _, settings in calls)
    assert resumed["id"] == first["id"]
    assert anew["id"] != first["id"]
    assert first["mode"] == "offline"
    assert (first["project"], first["name"], first["resume"]) == ("unsam", "first try", "allow")
    assert first["dir"] == str(tmp_path)


def test_records_are_logged_at_their_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = install_wandb(monkeypatch)
    writer = WandbWriter(tmp_path)
    writer.write({"iteration": 20, "loss": 0.5})
    writer.close()
    assert calls[1:] == [("log", {"loss": 0.5}, 20), ("finish",)]
    assert calls[0][1]["name"] is None
