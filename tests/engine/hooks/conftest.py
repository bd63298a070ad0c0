from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.tiny import make_dataset


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "data", ["a.png", "b.png", "c.png"])
