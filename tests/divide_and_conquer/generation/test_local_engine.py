"""Workers on this machine: how many, on which GPU, and what their failures cost."""

from __future__ import annotations

import dataclasses
import re

import pytest

from divide_and_conquer import generate
from divide_and_conquer.generation.local_engine import run_local, visible_gpus
from divide_and_conquer.generation.worker_process import WorkerProcess, WorkerSetup
from unsam.config import get_cfg
from unsam.errors import ConfigError

# Answers each message with what it was given, and dies or talks nonsense when told to.
ECHO = """
import json, os, sys, time
for line in sys.stdin:
    message = json.loads(line)
    task = message.get("name", "")
    if task == "die": os._exit(7)
    if task == "kill": os.kill(os.getpid(), 9)
    if task == "hang": time.sleep(600)
    if task == "half": sys.stdout.write('{"half'); sys.stdout.flush(); os._exit(0)
    time.sleep(0.05)
    print("?" if task == "nonsense" else json.dumps({"pid": os.getpid(),
        "threads": os.environ["OMP_NUM_THREADS"],
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "none"), **message}), flush=True)
"""


@pytest.fixture
def setup(tmp_path):
    (tmp_path / "echo.py").write_text(ECHO)
    return WorkerSetup("", "cuda", (str(tmp_path / "echo.py"),))


def answers(names, *arguments):
    tasks = [{"name": name} for name in names]
    return {task["name"]: answer for task, answer in run_local(tasks, *arguments)}


def test_each_worker_has_its_gpu_and_one_thread(setup):
    got = answers([str(i) for i in range(12)], setup, 0, ["5", "GPU-7"])
    gpus = {answer["pid"]: answer["gpu"] for answer in got.values()}
    assert sorted(gpus.values()) == ["5", "GPU-7"]
    assert {answer["threads"] for answer in got.values()} == {"1"}
    shared = answers([str(i) for i in range(12)], setup, 4, ["5", "6"])
    assert sorted({a["pid"]: a["gpu"] for a in shared.values()}.values()) == ["5", "5", "6", "6"]


def test_a_worker_that_dies_or_is_out_of_step_costs_one_task(setup):
    got = answers(["a", "die", "b", "kill", "c", "half", "d", "nonsense", "e"], setup, 1)
    assert {name for name, answer in got.items() if "error" in answer} == {
        "die", "kill", "half", "nonsense",
    }  # fmt: skip
    assert "exited (7)" in got["die"]["error"]
    assert "signal 9" in got["kill"]["error"]
    assert not any(answer.get("fatal") for answer in got.values())


def test_a_worker_that_hangs_costs_one_task(setup):
    setup = dataclasses.replace(setup, longest_seconds=1.5)
    got = answers(["a", "hang", "b", "hang", "c"], setup, 1)
    assert "no masks after 1.5 seconds" in got["hang"]["error"]
    assert not got["hang"]["fatal"]
    assert len({got[name]["pid"] for name in "ab"}) == 2
    assert "pid" in got["c"]


def test_a_worker_that_never_gets_ready_is_fatal(tmp_path):
    (tmp_path / "deaf.py").write_text("import time; time.sleep(600)")
    worker = WorkerProcess(WorkerSetup("", "cpu", (str(tmp_path / "deaf.py"),), 0.5))
    answer = worker.ask({"name": "a"})
    assert answer == {"error": "a worker was not ready after 0.5 seconds", "fatal": True}


def test_a_worker_that_cannot_start_is_fatal(tmp_path):
    for code, reason in [
        ("raise SystemExit(3)", r"exited \(3\) before its first photo"),
        ('print(\'{"error": "no weights"}\', flush=True); input()', "no weights"),
    ]:
        (tmp_path / "bad.py").write_text(code)
        worker = WorkerProcess(WorkerSetup("", "cpu", (str(tmp_path / "bad.py"),)))
        answer = worker.ask({"name": "a"})
        worker.stop()
        assert answer["fatal"]
        assert re.search(reason, answer["error"])


def test_devices(monkeypatch):
    monkeypatch.setattr(generate, "_count_gpus", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert generate._gpus("auto") == generate._gpus("cuda") == ["0", "1", "2"]
    assert generate._gpus("cpu") == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6,GPU-ab")
    assert generate._gpus("cuda:1") == ["6"]
    assert visible_gpus(2) == ["4", "6"]
    for device in ("cuda:3", "gpu", "cuda:x"):
        with pytest.raises(ConfigError, match="DEVICE"):
            generate._gpus(device)
    monkeypatch.setattr(generate, "_count_gpus", lambda: 0)
    assert generate._gpus("auto") == []
    with pytest.raises(ConfigError, match="0 GPUs"):
        generate._gpus("cuda")


def test_only_networks_go_to_the_gpu():
    cfg = get_cfg()
    assert not generate._has_network(cfg.PSEUDO_MASKS.dump())
    for stage, name in [("FEATURES", "vit"), ("DIVIDE", "cutler"), ("DIVIDE", "maskcut")]:
        other = cfg.clone()
        other.PSEUDO_MASKS[stage].NAME = name
        assert generate._has_network(other.PSEUDO_MASKS.dump())


def test_a_stopped_worker_starts_no_process(setup):
    worker = WorkerProcess(setup)
    assert worker.ask({"name": "x"})["name"] == "x"
    worker.stop()
    assert worker.ask({"name": "x"})["fatal"]
