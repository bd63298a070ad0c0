"""The registry names the nearest entry when it does not know one."""

from __future__ import annotations

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
