"""Kernels also work where numba finds no place for its cache."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys

import pytest

from unsam.regions import compiled


def test_fallback_without_a_cache(monkeypatch):
    calls = []
    original = compiled.numba.njit

    def refusing(*functions, **options):
        # numba compiles functions of its own as well.
        if functions:
            return original(*functions, **options)
        calls.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return original(**options)

    monkeypatch.setattr(compiled.numba, "njit", refusing)
    double = compiled.kernel(lambda x: 2 * x)
    assert double(21) == 42
    assert [bool(options.get("cache")) for options in calls] == [True, False]
    total = compiled.reduction(lambda x: x + 1.0)
    assert total(1.0) == 2.0


def test_fallback_without_the_internal_option(monkeypatch):
    original = compiled.numba.njit

    def newer(*functions, **options):
        if "_nrt" in options:
            raise KeyError("_nrt")
        return original(*functions, **options)

    monkeypatch.setattr(compiled.numba, "njit", newer)
    assert compiled.borrower(lambda x: 2 * x)(4) == 8


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_read_only_install_imports_and_runs(repository, tmp_path):
    """The package folder and the user's cache folder are files or read-only."""
    package = tmp_path / "site"
    for name in ("divide_and_conquer", "unsam"):
        shutil.copytree(
            repository / name, package / name, ignore=shutil.ignore_patterns("__pycache__")
        )
        (package / name / "__pycache__").write_text("no folder can be made here")
    package.chmod(package.stat().st_mode & ~stat.S_IWUSR)
    blocked = tmp_path / "home"
    blocked.write_text("no folder can be made here")
    code = (
        "from unsam.regions.ranking import region_scores, _outer_boundaries as kernel;"
        "import divide_and_conquer as d, numpy as n; print(d.__file__);"
        "z = n.zeros((0, 2), n.int64);"
        "print(kernel(z, z[:, 0], z[:, 0] * 1.0, z, n.ones(1), 1)[0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            "PYTHONPATH": str(package),
            "HOME": str(blocked),
            "XDG_CACHE_HOME": str(blocked / "cache"),
            "PATH": os.environ["PATH"],
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(package) in done.stdout
    assert "[0.0]" in done.stdout
