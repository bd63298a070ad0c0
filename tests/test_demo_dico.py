"""The demo draws a real photo, and what is wrong is one line and an exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from unsam.structures import read_photo


@pytest.fixture(scope="module")
def photo(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real photo, made small for speed."""
    source = sorted((data_root / "bsds500" / "images" / "val").glob("*.jpg"))[0]
    path = tmp_path_factory.mktemp("photo") / "small.png"
    Image.fromarray(cv2.resize(read_photo(source), (96, 64), interpolation=cv2.INTER_AREA)).save(
        path
    )
    return path


def run_demo(repository: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(repository / "demo" / "demo_dico.py"), *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)},
        timeout=300,
    )


def test_a_photo_becomes_a_picture_of_its_levels(
    repository: Path, photo: Path, tmp_path: Path
) -> None:
    output = tmp_path / "new" / "masks.png"
    limit = ("--opts", "PSEUDO_MASKS.MAX_MASKS", "40")
    done = run_demo(repository, "--input", photo, "--output", output, "--preset", "default", *limit)
    assert done.returncode == 0, done.stderr
    assert str(output) in done.stdout
    picture = np.asarray(Image.open(output))
    assert picture.ndim == 3
    assert picture.shape[1] > 600
    assert np.ptp(picture.astype(int), axis=2).max() > 50
    assert [path.name for path in output.parent.iterdir()] == ["masks.png"]


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (("--input", "PHOTO", "--output", "x.gif"), ".png, .jpg", 1),
        (("--input", "none.jpg", "--output", "x.png"), "none.jpg: no such file", 1),
        (("--input", "PHOTO", "--output", "x.png", "--preset", "best"), "there are default", 2),
        (("--input", "PHOTO", "--output", "x.png", "--opts", "WORDS", "1"), "unknown key", 2),
        (("--input", "PHOTO", "--output", "x.png", "--config-file", "none.yaml"), "none.yaml", 2),
    ],
)
def test_what_is_wrong_is_one_line(
    repository: Path, photo: Path, words: tuple[str, ...], message: str, code: int
) -> None:
    done = run_demo(repository, *(str(photo) if word == "PHOTO" else word for word in words))
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
