"""Writers by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.engine.tiny import make_dataset, make_trainer, tiny_cfg
from tests.engine.writers.stand_ins import install_tensorboard, install_wandb
from unsam.config import get_cfg
from unsam.engine.writers import writer_makers
from unsam.errors import ConfigError


def names(*writers: str) -> list[str]:
    cfg = get_cfg()
    cfg.LOGGING.WRITERS = writers
    return list(writer_makers(cfg, Path("metrics.jsonl")))


def test_lines_of_json_are_always_written() -> None:
    assert names() == ["jsonl"]
    assert names("progress", "jsonl") == ["jsonl", "progress"]


def test_unknown_writer_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no writer 'tensorbord'; did you mean 'tensorboard'\?"):
        names("tensorbord")


def test_unknown_mode_names_the_known() -> None:
    cfg = get_cfg()
    cfg.LOGGING.WANDB_MODE = "ofline"
    with pytest.raises(ConfigError, match=r"one of online, offline, disabled, got ofline"):
        writer_makers(cfg, Path("metrics.jsonl"))


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_missing_package_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder of that name, without code, is nothing to import.
    (tmp_path / name).mkdir()
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match=r'install "unsam\[log\]"'):
        names(name)


def test_every_writer_of_the_config_is_told_of_every_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorboard, wandb = install_tensorboard(monkeypatch), install_wandb(monkeypatch)
    cfg = tiny_cfg(make_dataset(tmp_path / "data", ["a.png", "b.png"]), tmp_path, MAX_ITER=2)
    cfg.LOGGING.WRITERS = ("tensorboard", "wandb")
    trainer, _ = make_trainer(cfg)
    trainer.train()
    assert [call[2] for call in tensorboard if call[0] == "loss"] == [1, 2]
    assert [call[2] for call in wandb if call[0] == "log"] == [1, 2]
    assert tensorboard[-1] == ("close",)
    assert wandb[-1] == ("finish",)
    assert wandb[0][1]["config"]["SOLVER"]["MAX_ITER"] == 2
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
