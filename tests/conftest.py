"""Fixtures that all tests share: where the real data and the golden packs are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: str) -> Path:
    given = os.environ.get(variable)
    path = Path(given) if given else REPOSITORY.parent / "shared" / default
    if not path.is_dir():
        pytest.skip(f"no folder {path}; set {variable}")
    return path


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def data_root() -> Path:
    return _folder("UNSAM_DATA", "data")


@pytest.fixture(scope="session")
def golden_root() -> Path:
    return _folder("UNSAM_GOLDEN", "golden")
