"""Fixtures that all tests share: where the real data and the golden packs are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.parity import PARITY, Parity

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


@pytest.fixture(scope="session")
def parity() -> Parity:
    """Where golden tests put their errors, for the table of `pytest -k golden`."""
    return PARITY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if PARITY.errors:
        terminalreporter.section("largest errors against the golden packs, relative")
        for line in PARITY.lines():
            terminalreporter.write_line(line)
