"""Worker processes on this machine: one per usable core, or one per visible GPU."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Sequence

from divide_and_conquer.generation.worker_process import Answer, Task, WorkerProcess, WorkerSetup


def run_local(
    tasks: Sequence[Task], setup: WorkerSetup, workers: int, gpus: Sequence[str] = ()
) -> Iterator[tuple[Task, Answer]]:
    """Yield each task with its answer, in the order in which the workers finish them.

    Args:
        tasks: handed out in order, one by one.
        setup: what each worker is started with.
        workers: processes; 0 is one per GPU, or per usable core where there is none.
        gpus: what CUDA_VISIBLE_DEVICES calls the GPUs; more workers than GPUs share them.
    """
    count = min(workers or len(gpus) or len(os.sched_getaffinity(0)), len(tasks))
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Task, Answer]] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    processes = [
        WorkerProcess(setup, gpus[index % len(gpus)] if gpus else None) for index in range(count)
    ]
    stopped = threading.Event()

    def feed(process: WorkerProcess) -> None:
        while not stopped.is_set():
            try:
                task = waiting.get_nowait()
            except queue.Empty:
                break
            done.put((task, process.ask(task)))
        process.stop()

    try:
        for process in processes:
            threading.Thread(target=feed, args=(process,), daemon=True).start()
        for _ in tasks:
            yield done.get()
    finally:
        stopped.set()
        for process in processes:
            process.stop()


def visible_gpus(count: int) -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls the first `count` GPUs that this process may use."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(index) for index in range(count)]
    return [name.strip() for name in names[:count]]
