"""Modules in the place of packages that may not be installed; they record their calls."""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType
from typing import Any

import pytest

Calls = list[tuple[Any, ...]]


def install(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="stand-in")
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


def install_tensorboard(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls: Calls = []

    class SummaryWriter:
        def __init__(self, log_dir: str, purge_step: int) -> None:
            calls.append(("open", log_dir, purge_step))

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            calls.append((tag, value, step))

        def flush(self) -> None:
            calls.append(("flush",))

        def close(self) -> None:
            calls.append(("close",))

    install(monkeypatch, "tensorboard")
    install(monkeypatch, "torch.utils.tensorboard", SummaryWriter=SummaryWriter)
    return calls


def install_wandb(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls: Calls = []

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            calls.append(("log", values, step))

        def finish(self) -> None:
            calls.append(("finish",))

    def init(**settings: Any) -> Run:
        calls.append(("init", settings))
        return Run()

    install(monkeypatch, "wandb", init=init)
    return calls
