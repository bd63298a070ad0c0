"""Divide and conquer on a folder: one JSON of masks per photo, and a manifest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from tqdm import tqdm

from divide_and_conquer.pipeline import PseudoMasker
from unsam.checkpoint.atomic import write_text_atomic
from unsam.errors import DataError, UnsamError
from unsam.structures import PHOTO_SUFFIXES

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
# Raise when the same photo and config give other masks than before: old files are made again.
CODE_VERSION = 1
WORKER_COMMAND = [sys.executable, "-m", "divide_and_conquer.worker"]
# The threads of every numeric library that a worker may load.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def generate_pseudo_masks(
    input_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    cfg: CfgNode,
    workers: int = 0,
    strict: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Make pseudo masks for all photos of a folder and the folders in it.

    The photo ``a/b.jpg`` gives ``a/b.jpg.json``, in SA-1B's layout with granularity, parent and
    source added. Files are written whole or not at all; a rerun keeps those that hold masks of the
    same photo, config and code version. Neither the number of workers nor their timing changes a
    byte of the results. Hidden files and folders are passed over.

    Args:
        input_dir: the folder of photos (`unsam.structures.PHOTO_SUFFIXES`).
        output_dir: where the files go; made if missing.
        cfg: PSEUDO_MASKS is read.
        workers: processes, one thread each; 0 is one per usable core.
        strict: raise if any photo failed (after all the others are done).
        progress: show a bar on standard error.

    Returns:
        What ``manifest.json`` holds: ``version``, ``image_root``, ``config``, ``code_version``,
        ``images`` (relative path to ``sha256``, ``masks``, ``json``), ``failures`` (relative path
        to reason) and ``counts``. A corrupt photo, or one at which a worker died, is a failure.

    Raises:
        DataError: the input is no folder or has no photo, none could be used, or `strict` and a
            photo failed. The manifest is written where there is something to say.
        StorageError: the output folder cannot be written, or the disk is full.
    """
    root = Path(input_dir).absolute()
    names = find_photos(root)
    output = Path(output_dir).absolute()
    _check_writable(output)
    PseudoMasker.from_config(cfg)  # A wrong config ends here, before any process starts.
    section = cfg.PSEUDO_MASKS.dump()
    made_from = {
        "config": hashlib.sha256(section.encode()).hexdigest()[:16],
        "code_version": CODE_VERSION,
    }
    tasks = [
        {
            "photo": str(root / name),
            "name": name,
            "json": str(output / f"{name}.json"),
            "made_from": made_from,
        }
        for name in names
    ]
    answers: dict[str, dict[str, Any]] = {}
    try:
        count = min(workers or len(os.sched_getaffinity(0)), len(tasks))
        with tqdm(total=len(tasks), unit="photo", disable=not progress) as bar:
            for task, answer in _run_tasks(tasks, section, count):
                answers[task["name"]] = answer
                bar.update()
                if answer.get("fatal"):
                    raise UnsamError(
                        f"{answer['error']}; {len(answers) - 1} of {len(tasks)} photos are "
                        "finished, a rerun does the rest"
                    )
    finally:
        # Also after a full disk or an interruption: finished photos stay usable as a data set.
        if len(answers) < len(tasks):
            answers = _known_before(output, section, names) | answers
            with contextlib.suppress(UnsamError):
                _write_manifest(output, _manifest(root, section, answers))
    manifest = _manifest(root, section, answers)
    _write_manifest(output, manifest)
    _check_outcome(manifest, root, strict)
    return manifest


def find_photos(root: Path) -> list[str]:
    """Return the photos below a folder, as sorted paths relative to it with forward slashes.

    Raises:
        DataError: not a folder, or no photo in it.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}; name a folder of photos")
    names = []
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        names += [
            (Path(folder) / name).relative_to(root).as_posix()
            for name in files
            if name.lower().endswith(PHOTO_SUFFIXES) and not name.startswith(".")
        ]
    if not names:
        raise DataError(
            f"{root}: no photos in this folder (looked for {', '.join(PHOTO_SUFFIXES)})"
        )
    return sorted(names)


def _run_tasks(
    tasks: list[dict[str, Any]], section: str, count: int
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each task with its answer, in the order in which `count` workers finish them."""
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[dict[str, Any], dict[str, Any]]] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    handlers = [_WorkerHandler(section, waiting, done) for _ in range(count)]
    try:
        for handler in handlers:
            handler.start()
        for _ in tasks:
            yield done.get()
    finally:
        for handler in handlers:
            handler.stop()


class _WorkerHandler(threading.Thread):
    """Feeds one worker process; starts another one when it dies."""

    def __init__(self, section: str, waiting: queue.SimpleQueue, done: queue.SimpleQueue) -> None:
        super().__init__(daemon=True)
        self.section = section
        self.waiting = waiting
        self.done = done
        self.process: subprocess.Popen[str] | None = None
        self.stopped = False

    def run(self) -> None:
        """Hand out waiting tasks one by one until there are none."""
        while not self.stopped:
            try:
                task = self.waiting.get_nowait()
            except queue.Empty:
                break
            try:
                answer = self._ask(task)
            except (OSError, ValueError) as error:
                answer = {"error": f"worker: {error}", "fatal": False}
            self.done.put((task, answer))
        self.stop()

    def stop(self) -> None:
        """End the worker process, at once."""
        self.stopped = True
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _ask(self, task: dict[str, Any]) -> dict[str, Any]:
        if self.process is None:
            self.process = _start_worker()
            self._send({"config": self.section})
        self._send(task)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        code = self.process.wait()
        self.process = None
        reason = (
            f"was killed by signal {-code} (out of memory?)" if code < 0 else f"exited ({code})"
        )
        return {"error": f"the worker process {reason} at this photo", "fatal": False}

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        # A worker that died is noticed when its answer is read.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()


def _start_worker() -> subprocess.Popen[str]:
    environment = dict(os.environ)
    environment.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    # The worker must find this very package, installed or not.
    environment["PYTHONPATH"] = os.pathsep.join([entry or str(Path.cwd()) for entry in sys.path])
    return subprocess.Popen(
        WORKER_COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
        # Ctrl-C is for the caller, who ends the workers; a worker also ends when its input does.
        start_new_session=True,
    )


def _manifest(root: Path, section: str, answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    done = {name: answer for name, answer in sorted(answers.items()) if "error" not in answer}
    return {
        "version": FORMAT_VERSION,
        "image_root": str(root),
        "config": {"PSEUDO_MASKS": _plain(CfgNode.load_cfg(section))},
        "code_version": CODE_VERSION,
        "images": {
            name: {"sha256": answer["sha256"], "masks": answer["masks"], "json": f"{name}.json"}
            for name, answer in done.items()
        },
        "failures": {
            name: answer["error"] for name, answer in sorted(answers.items()) if "error" in answer
        },
        "counts": {
            "photos": len(answers),
            "done": len(done),
            "failed": len(answers) - len(done),
            "masks": sum(answer["masks"] for answer in done.values()),
        },
    }


def _write_manifest(output: Path, manifest: dict[str, Any]) -> None:
    write_text_atomic(output / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def _known_before(output: Path, section: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return the entries of an earlier manifest of the same config: their files are still there."""
    try:
        manifest = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
        same = manifest["config"] == {"PSEUDO_MASKS": _plain(CfgNode.load_cfg(section))}
        known = manifest["images"] if same and manifest["code_version"] == CODE_VERSION else {}
        return {name: known[name] for name in names if name in known}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _plain(node: Any) -> Any:
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, dict) else node


def _check_writable(output: Path) -> None:
    """Fail now, in one line, rather than after the first photo."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise DataError(
            f"{output}: cannot write to the output folder ({error.strerror or error}); "
            "choose another one"
        ) from error


def _check_outcome(manifest: dict[str, Any], root: Path, strict: bool) -> None:
    failures = manifest["failures"]
    if not failures or (manifest["images"] and not strict):
        return
    name, reason = next(iter(failures.items()))
    total = manifest["counts"]["photos"]
    if not manifest["images"]:
        raise DataError(f"{root}: none of the {total} photos could be used ({name}: {reason})")
    raise DataError(
        f"{root}: {len(failures)} of {total} photos could not be used ({name}: {reason})"
    )
