"""A built wheel works from any folder: code, recipes and style sheet travel with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel, built from a copy of the sources."""
    repository = Path(__file__).resolve().parents[2]
    root = tmp_path_factory.mktemp("wheel")
    keep = ("unsam", "divide_and_conquer", "configs", "setup.py", "pyproject.toml", "README.md")
    (root / "source").mkdir()
    for name in (*keep, "LICENSE"):
        target = root / "source" / name
        if (repository / name).is_dir():
            shutil.copytree(repository / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(repository / name, target)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(root)]
    subprocess.run([*build, str(root / "source")], check=True, capture_output=True)
    (wheel,) = root.glob("*.whl")
    shutil.unpack_archive(wheel, root / "site", "zip")
    shutil.rmtree(root / "source")
    return root / "site"


def run(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_wheel_runs_elsewhere(site: Path, tmp_path: Path) -> None:
    where = run(site, tmp_path, "-c", "import unsam; print(unsam.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(site)
    listed = run(site, tmp_path, "-m", "unsam.cli", "configs")
    assert "quickstart/tiny.yaml" in listed.stdout.split()
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "a.png")
    words = ["-m", "unsam.cli", "pseudo-masks", "--input", "photos", "--output", "masks"]
    done = run(site, tmp_path, *words, "--config-file", "quickstart/tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "masks" / "manifest.json").is_file()
    css = "from unsam.visualization import Report; Report('t', 'l').write('r.html')"
    assert run(site, tmp_path, "-c", css).returncode == 0


def test_the_wheel_holds_only_the_packages(site: Path) -> None:
    top = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"unsam", "divide_and_conquer"}
