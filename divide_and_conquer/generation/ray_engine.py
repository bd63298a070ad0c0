"""Ray Data: the worker processes of `worker_process`, one in each actor, on a whole cluster.

All machines of the cluster see input and output under the same paths.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from divide_and_conquer.generation.worker_process import Answer, Task, WorkerProcess, WorkerSetup
from unsam.errors import ConfigError, UnsamError

# Photos that travel to an actor and back at once: enough to hide the way, few enough to balance.
BLOCK_SIZE = 16


class PhotoActor:
    """Answers tasks on one node; its GPU is the one that Ray gives it."""

    def __init__(self, setup: WorkerSetup) -> None:
        """Keep a worker, which starts with the first task."""
        self.worker = WorkerProcess(setup)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Answer the tasks of one batch, all as JSON text."""
        answers = [self.worker.ask(json.loads(task)) for task in batch["task"]]
        return {"answer": [json.dumps(answer) for answer in answers], "task": list(batch["task"])}


@contextlib.contextmanager
def ray_cluster(workers: int) -> Iterator[Any]:
    """Yield `ray`, connected: to the cluster at hand, or else to one started on this machine.

    A connection that was there before is used and left as it is.

    Raises:
        UnsamError: Ray is not installed, or no connection can be made.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UnsamError(
            f"--engine ray needs Ray Data ({error}): pip install 'unsam[scale]'"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, workers)
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
    finally:
        logger.setLevel(level)
        if ours:
            ray.shutdown()


def run_ray(
    ray: Any, tasks: Sequence[Task], setup: WorkerSetup, workers: int
) -> Iterator[tuple[Task, Answer]]:
    """Yield each task with its answer, in the order in which they are finished.

    Args:
        ray: what `ray_cluster` yields.
        tasks: may be done anywhere in the cluster; done twice where a node dies.
        setup: what each worker is started with.
        workers: actors; 0 is one per GPU of the cluster, or per core for ``"cpu"``.

    Raises:
        ConfigError: the device is ``"cuda"``, and the cluster has no GPU.
    """
    if not tasks:
        return
    resources = ray.cluster_resources()
    gpus = resources.get("GPU", 0.0) if setup.device == "cuda" else 0.0
    if setup.device == "cuda" and not gpus:
        raise ConfigError("DEVICE cuda: the Ray cluster has no GPU; set DEVICE cpu")
    count = min(workers or int(gpus or resources["CPU"]), len(tasks))
    # More actors than GPUs share them.
    share = {"num_gpus": min(1.0, gpus / count)} if gpus else {"num_cpus": 1}
    by_name = {task["name"]: task for task in tasks}
    blocks = max(-(-len(tasks) // BLOCK_SIZE), min(4 * count, len(tasks)))
    items = [{"task": json.dumps(task)} for task in tasks]
    rows = ray.data.from_items(items, override_num_blocks=blocks).map_batches(
        PhotoActor,
        fn_constructor_args=(setup,),
        compute=ray.data.ActorPoolStrategy(size=count),
        batch_size=1,
        **share,
    )
    for row in rows.iter_rows():
        yield by_name[json.loads(row["task"])["name"]], json.loads(row["answer"])


def _connect(ray: Any, workers: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        with contextlib.suppress(ConnectionError):
            ray.init(address="auto", **quiet)
            return
        cores = workers or len(os.sched_getaffinity(0))
        ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())[:300]
        raise UnsamError(f"--engine ray: no connection to a Ray cluster ({line})") from error
