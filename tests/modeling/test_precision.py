"""The arithmetic of autocast follows the config, and with "auto" the device."""

from __future__ import annotations

import pytest
import torch

from unsam.errors import ConfigError
from unsam.modeling.precision import at_least_float32, autocast_dtype

CPU = torch.device("cpu")


def test_names() -> None:
    assert autocast_dtype("bfloat16", CPU) is torch.bfloat16
    assert autocast_dtype("float16", CPU) is torch.float16
    assert autocast_dtype("float32", CPU) is None
    with pytest.raises(ConfigError, match="known: auto"):
        autocast_dtype("half", CPU)


@pytest.mark.parametrize(("avx", "amx"), [(True, False), (False, True), (False, False)])
def test_auto_asks_the_processor(avx: bool, amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert autocast_dtype("auto", CPU) is (torch.bfloat16 if avx or amx else None)


def test_half_precision_becomes_float32_and_nothing_else_changes() -> None:
    for half in (torch.bfloat16, torch.float16):
        assert at_least_float32(torch.ones(2, dtype=half)).dtype == torch.float32
    for full in (torch.float32, torch.float64):
        x = torch.ones(2, dtype=full)
        assert at_least_float32(x) is x
