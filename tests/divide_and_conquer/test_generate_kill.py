"""Nothing is lost: kill -9 at random moments, full disks; a rerun ends as if nothing had been."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from divide_and_conquer.generate import generate_pseudo_masks
from unsam.errors import UnsamError

NUM_PHOTOS = 30
# Writes down each photo that it has made, once the file is there.
WORKER = """
import os, sys
from divide_and_conquer.generation import worker
def logged(path, text, write=worker.write_text_atomic):
    write(path, text)
    with open(sys.argv[1], "a") as log: log.write(os.path.basename(path) + "\\n")
worker.write_text_atomic = logged
worker.main()
"""
RUN = """
import json, sys
from divide_and_conquer import generate
from unsam.config import get_cfg
given = json.loads(sys.argv[1])
cfg = get_cfg()
cfg.DEVICE = "cpu"
cfg.PSEUDO_MASKS.WORK_SIZE, cfg.PSEUDO_MASKS.MAX_MASKS = 64, 20
generate.WORKER_COMMAND = [sys.executable, given["worker"], given["log"]]
generate.generate_pseudo_masks(
    given["input"], given["output"], cfg, 2, progress=False, **given["options"])
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory, save_photo):
    root = tmp_path_factory.mktemp("photos")
    for seed in range(NUM_PHOTOS):
        save_photo(root / f"{seed % 3}" / f"{seed:02d}.png", seed)
    (root / "0" / "broken.png").write_text("no photo")
    return root


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory, tiny_cfg):
    """What uninterrupted runs of the local engine write, by output format."""
    trees = {}
    for output_format in ("json", "webdataset"):
        target = tmp_path_factory.mktemp("whole")
        generate_pseudo_masks(
            photos, target, tiny_cfg, 2, progress=False, output_format=output_format,
            samples_per_shard=8,
        )  # fmt: skip
        trees[output_format] = tree(target)
    return trees


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).as_posix().startswith(".")
        and not path.name.endswith(".tmp")
    }  # fmt: skip


def stamps(folder):
    found = {}
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".tar") and not path.name.startswith("manifest"):
            with contextlib.suppress(FileNotFoundError):
                found[path] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def descendants(pid):
    """Return a process and all that it started, directly or not."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def gone(pids):
    def alive(pid):
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False

    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)


class Runs:
    """Runs of one output folder in processes of their own."""

    def __init__(self, folder, photos, **options):
        self.output, self.log = folder / "out", folder / "log"
        (folder / "worker.py").write_text(WORKER)
        self.command = [
            sys.executable, "-c", RUN,
            json.dumps({
                "input": str(photos), "output": str(self.output), "log": str(self.log),
                "worker": str(folder / "worker.py"), "options": options,
            }),
        ]  # fmt: skip
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(self):
        return subprocess.Popen(
            self.command, env=self.environment, stderr=subprocess.DEVNULL, start_new_session=True
        )

    @property
    def made(self):
        return Counter(self.log.read_text().split("\n")[:-1]) if self.log.exists() else Counter()

    def kill_after(self, more, pause, only_parent):
        """Kill a run when it has made so many more photos and paused; tell whether it was alive."""
        before = self.made.total()
        process = self.start()
        deadline = time.monotonic() + 120
        while self.made.total() < before + more and time.monotonic() < deadline:
            if process.poll() is not None:
                break
            time.sleep(0.002)
        time.sleep(pause)
        pids = descendants(process.pid)
        alive = process.poll() is None
        kill([process.pid] if only_parent else pids)
        process.wait()
        gone(pids)
        kill(pids)
        return alive


@pytest.mark.slow
@pytest.mark.parametrize("output_format", ["json", "webdataset"])
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_random_moments_and_run_again(photos, whole, tmp_path, output_format, seed):
    rng = random.Random(seed)
    runs = Runs(tmp_path, photos, output_format=output_format, samples_per_shard=8)
    kept = {}
    for attempt in range(4):
        more = rng.choice([0, 2, 5, 8, 9])
        pause = rng.random() * (1.5 if more == 0 else 0.03)
        runs.kill_after(more, pause, only_parent=attempt % 2 == 1)
        now = stamps(runs.output)
        # No finished file was written anew; one that waited for its shard may be in it by now.
        assert all(now[path] == stamp for path, stamp in kept.items() if path in now)
        kept = now
    process = runs.start()
    assert process.wait(timeout=120) == 0
    assert tree(runs.output) == whole[output_format]
    assert set(runs.made.values()) == {1}
    after = stamps(runs.output)
    assert all(after[path] == stamp for path, stamp in kept.items() if path in after)
    assert runs.start().wait(timeout=120) == 0
    assert stamps(runs.output) == after


@pytest.mark.slow
def test_killed_on_ray_and_run_again(photos, whole, tmp_path):
    pytest.importorskip("ray")
    runs = Runs(tmp_path, photos, engine="ray")
    assert runs.kill_after(4, 0.01, only_parent=False)
    done = stamps(runs.output)
    assert done
    assert runs.start().wait(timeout=180) == 0
    assert tree(runs.output) == whole["json"]
    assert set(runs.made.values()) == {1}
    assert all(stamps(runs.output)[path] == stamp for path, stamp in done.items())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, far too small; removed after the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("output_format", ["json", "webdataset"])
def test_a_full_disk_stops_with_one_line_and_room_continues(
    photos, whole, tmp_path, small_disk, tiny_cfg, output_format
):
    def run():
        return generate_pseudo_masks(
            photos, small_disk, tiny_cfg, 2, progress=False, output_format=output_format,
            samples_per_shard=8,
        )  # fmt: skip

    with pytest.raises(UnsamError, match=r"No space left.* a rerun does the rest") as caught:
        run()
    assert "\n" not in str(caught.value)
    done = stamps(small_disk)
    assert 1 < len(done) < NUM_PHOTOS
    for path in done:
        if path.suffix == ".json":
            assert json.loads(path.read_text())["annotations"]
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    run()
    assert tree(small_disk) == whole[output_format]
    after = stamps(small_disk)
    assert all(after[path] == stamp for path, stamp in done.items() if path in after)
