"""``train_net.py`` as a real command: started, watched, its processes found."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

import train_net
from tests.engine.tiny import make_dataset

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def write_recipe(folder: Path) -> Path:
    """Write a recipe of the smallest real model, with a checkpoint each third of twelve steps."""
    data = folder / "data"
    annotations = make_dataset(data, [f"photo_{number}.png" for number in range(5)])
    path = folder / "recipe.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "DEVICE": "cpu",
                "DATASETS": {"TRAIN": [str(annotations)], "IMAGE_ROOT": str(data)},
                "DATALOADER": {"NUM_WORKERS": 0},
                "INPUT": {"IMAGE_SIZE": 32},
                "SOLVER": {"MAX_ITER": 12, "BATCH_SIZE": 2, "LOG_PERIOD": 1},
                "CHECKPOINT": {"PERIOD": 4, "KEEP": 0},
            }
        )
    )
    return path


def start(
    *words: str, launcher: list[str] | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Start ``python [launcher] train_net.py words`` in a session of its own."""
    return subprocess.Popen(
        [sys.executable, *(launcher or []), str(Path(train_net.__file__)), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        start_new_session=True,
    )


def wait_until(
    condition: Callable[[], object], process: subprocess.Popen[str], seconds: float = 120
) -> None:
    """Wait until `condition` holds while `process` runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that a launcher has started for the ranks, which import torch alike."""
    return [
        child
        for child in _children(process.pid)
        if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def _children(parent: int) -> Iterator[int]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                # The name in parentheses may hold spaces; the parent is the second field after it.
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                yield int(path.name)
