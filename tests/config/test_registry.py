"""The registry names the nearest entry when it does not know one, and imports late."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from unsam.config import Registry
from unsam.errors import ConfigError


def test_known_unknown_and_double_names() -> None:
    registry = Registry("THINGS")

    @registry.register()
    class Hammer:
        pass

    assert registry.get("Hammer") is Hammer
    with pytest.raises(ConfigError, match="THINGS: unknown name 'Hamer'; did you mean 'Hammer'"):
        registry.get("Hamer")
    with pytest.raises(AssertionError):
        registry.register(Hammer)


def test_a_module_is_imported_when_its_name_is_first_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_things.py").write_text("import things\nthings.REGISTRY.register(dict)\n")
    things = types.ModuleType("things")
    registry = Registry("THINGS", {"dict": "late_things", "Saw": "no_such_module"})
    things.__dict__["REGISTRY"] = registry
    monkeypatch.setitem(sys.modules, "things", things)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="did you mean 'dict'"):
        registry.get("dicd")
    assert "late_things" not in sys.modules
    assert registry.get("dict") is dict
    assert registry.get("dict") is dict
    monkeypatch.delitem(sys.modules, "late_things")
