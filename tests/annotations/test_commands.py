"""The scripts in tools/ do what the functions do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.annotations.conftest import nested_masks, records_of


def script(repository: Path, name: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(repository / "tools" / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_scripts(repository: Path, make_folder: Callable[..., Path], tmp_path: Path) -> None:
    human = make_folder("human", {"a.jpg": nested_masks(0)})
    pseudo = make_folder("pseudo", {"a.jpg": nested_masks(1)})
    tsv, out = tmp_path / "tsv", tmp_path / "out"
    done = script(
        repository, "convert_annotations.py", "--input", human, "--output", tsv, "--to", "tsv"
    )
    assert done.stdout == f"1 photos, 5 masks in {tsv}\n"
    words = ["plus", "--human", tsv, "--pseudo", pseudo, "--output", out, "--max-iou", 1]
    done = script(repository, "merge_masks.py", *words)
    assert done.stdout == f"1 photos, 10 masks in {out}\n"
    assert len(records_of(out)["a.jpg"].masks()) == 10
    words = ["self-training", "--pseudo", pseudo, "--predictions", tmp_path / "no", "--output", out]
    done = script(repository, "merge_masks.py", *words)
    assert done.returncode == 1
    assert done.stderr == f"unsam: error: {tmp_path / 'no'}: no such file or folder\n"
