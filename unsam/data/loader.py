"""The training loader: micro-batches in the order of the sampler, made by worker processes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence

import cv2
import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch.utils.data import DataLoader, Dataset

from unsam.data.mapper import Record, Sample, TrainingDataset, TrainingMapper
from unsam.data.photo_order import PhotoOrder
from unsam.data.sampler import ResumableSampler, SampleKey
from unsam.data.task_sampler import AdaptiveOrder, AdaptiveTaskSampler
from unsam.errors import ConfigError, DataError, TrainingError, UnsamError

# Micro-batches that each worker makes ahead of the training.
_PREFETCH = 2


class TrainLoader:
    """Endless iterator over micro-batches, which are lists of samples on `device`.

    Masks travel from the workers as bits, an eighth of the bytes: that keeps within the 64 MB of
    shared memory that containers have by default, and the copy to a GPU short. They are unpacked
    on the device. Workers are started once and live as long as the iterator.

    Args:
        dataset: gives a sample or a `DataError` for each key.
        sampler: gives the keys of each micro-batch.
        num_workers: processes that make samples; 0 makes them in this one, with the same result.
        device: where the tensors of the samples go.
        seed: of what transforms draw from the generators of Python, NumPy and PyTorch.
    """

    def __init__(
        self,
        dataset: TrainingDataset,
        sampler: ResumableSampler,
        *,
        num_workers: int = 0,
        device: torch.device | None = None,
        seed: int = 0,
    ) -> None:
        self._device = device or torch.device("cpu")
        self._loader = DataLoader(
            _SeededSamples(dataset, seed),
            batch_sampler=sampler,
            num_workers=num_workers,
            prefetch_factor=_PREFETCH if num_workers else None,
            collate_fn=_collate,
            worker_init_fn=_init_worker,
            pin_memory=self._device.type == "cuda",
            # Its own generator: the loader must not draw from the one that training uses.
            generator=torch.Generator(),
        )

    def __iter__(self) -> Generator[list[Sample], None, None]:
        """Yield micro-batches without end; closing the generator ends the workers.

        Raises:
            DataError: a photo or its masks could not be read.
            TrainingError: a worker process died while it handed over samples.
        """
        try:
            for batch in self._loader:
                if isinstance(batch, DataError):
                    raise batch
                yield [_unpack(sample, self._device) for sample in batch]
        except (ConnectionError, EOFError) as error:
            # Torch's own report, which says more, comes by a signal a moment later: let it.
            time.sleep(1.0)
            raise _worker_death(error) from error


@contextlib.contextmanager
def worker_deaths_as_errors() -> Iterator[None]:
    """Turn torch's report of a dead worker into a one-line error.

    Torch raises it from a signal handler, so it comes wherever the process happens to be: wrap
    all work that goes on while a loader is open.

    Raises:
        TrainingError: a worker process died.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, UnsamError) or "DataLoader worker" not in str(error):
            raise
        raise _worker_death(error) from error


def _worker_death(error: Exception) -> TrainingError:
    return TrainingError(
        f"a data loading process died ({' '.join(str(error).split())[:200]}); if memory ran out, "
        "lower DATALOADER.NUM_WORKERS"
    )


def build_train_loader(
    cfg: CfgNode,
    records: Sequence[Record],
    *,
    lengths: Sequence[int] = (),
    rank: int = 0,
    world_size: int = 1,
    start: int = 0,
    device: torch.device | None = None,
    tasks: AdaptiveTaskSampler | None = None,
) -> TrainLoader:
    """Return the loader of one rank for the samples from `start` on.

    Args:
        cfg: the config; reads ``DATASETS.WEIGHTS``, ``INPUT``, ``DATALOADER``, ``SOLVER`` and
            ``SEED``.
        records: all photos of the training set, the same in every rank.
        lengths: how many of them each entry of ``DATASETS.TRAIN`` has; empty if there is one.
        rank: this process.
        world_size: number of processes.
        start: samples of the run seen before, over all ranks.
        device: where the samples go.
        tasks: draws harder photos more often; None goes through them in passes.

    Raises:
        ConfigError: no photo, weights that do not fit, or a batch size that cannot be dealt out.
    """
    solver, workers = cfg.SOLVER, cfg.DATALOADER.NUM_WORKERS
    order = PhotoOrder(lengths or [len(records)], seed=cfg.SEED, weights=cfg.DATASETS.WEIGHTS)
    if tasks is not None:
        _check_lookahead(workers, solver.ACCUMULATE, tasks.refresh_period)
    sampler = ResumableSampler(
        order
        if tasks is None
        else AdaptiveOrder(order, tasks, batch_size=solver.BATCH_SIZE, start=start, seed=cfg.SEED),
        solver.BATCH_SIZE,
        rank=rank,
        world_size=world_size,
        accumulate=solver.ACCUMULATE,
        start=start,
    )
    return TrainLoader(
        TrainingDataset(records, TrainingMapper.from_config(cfg)),
        sampler,
        num_workers=workers,
        device=device,
        seed=cfg.SEED,
    )


class _SeededSamples(Dataset):
    """The samples of a dataset, each made with generators that are seeded for it alone.

    Ours draw from generators of their own; a transform from elsewhere may not.
    """

    def __init__(self, dataset: TrainingDataset, seed: int) -> None:
        self._dataset = dataset
        self._seed = seed

    def __getitem__(self, key: SampleKey) -> Sample | DataError:
        with _seeded([self._seed, *key]):
            return self._dataset[key]


@contextlib.contextmanager
def _seeded(entropy: Sequence[int]) -> Iterator[None]:
    """Seed the global generators for a block, and put them back as they were."""
    seeds = np.random.SeedSequence(entropy).generate_state(3).tolist()
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seeds[0])
    np.random.seed(seeds[1])  # noqa: NPY002
    torch.default_generator.manual_seed(seeds[2])
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


def _check_lookahead(workers: int, accumulate: int, period: int) -> None:
    """Refuse workers that would need chances which are not frozen yet."""
    steps = -(-_PREFETCH * workers // accumulate) + 1
    if steps > period:
        raise ConfigError(
            f"TASKS.REFRESH_PERIOD {period} is less than the {steps} steps that "
            f"{workers} worker(s) load ahead; set it to {steps} or more"
        )


def _collate(samples: list[Sample | DataError]) -> list[Sample] | DataError:
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
    return [_pack(sample) for sample in samples if not isinstance(sample, DataError)]


def _pack(sample: Sample) -> Sample:
    bits = np.packbits(sample["masks"].numpy(), axis=-1, bitorder="little")
    return sample | {"masks": torch.from_numpy(bits)}


def _unpack(sample: Sample, device: torch.device) -> Sample:
    moved = {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in sample.items()
    }
    bits, width = moved["masks"], moved["image"].shape[-1]
    if device.type == "cpu":
        dense = np.unpackbits(bits.numpy(), axis=-1, count=width, bitorder="little")
        moved["masks"] = torch.from_numpy(dense.view(bool))
    else:
        places = torch.arange(8, dtype=torch.uint8, device=device)
        spread = (bits[..., None] >> places) & 1
        moved["masks"] = spread.flatten(-2)[..., :width].bool()
    return moved


def _init_worker(worker_id: int) -> None:
    """Leave signals to the main process, which ends its workers itself; no threads of OpenCV.

    Ctrl-C and a scheduler's SIGTERM reach every process of a job; a worker that died of them
    would take the checkpoint on interruption with it. An orphaned worker ends by itself.
    """
    del worker_id
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_parent, args=(os.getppid(),), daemon=True).start()


def _obey_parent(parent: int) -> None:
    """Take SIGTERM from the process `parent` only."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
