"""The loader gives the same samples whoever makes them, and reports trouble once."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unsam.config import get_cfg
from unsam.data import ImageRecord
from unsam.data.loader import TrainLoader, build_train_loader, worker_deaths_as_errors
from unsam.data.mapper import TrainingMapper
from unsam.data.photo_order import PhotoOrder
from unsam.data.sampler import ResumableSampler, SampleKey
from unsam.data.task_sampler import AdaptiveTaskSampler
from unsam.errors import ConfigError, DataError, TrainingError
from unsam.structures import MaskSet


@pytest.fixture
def records(tmp_path: Path) -> list[ImageRecord]:
    generator = np.random.default_rng(0)
    result = []
    for number in range(5):
        file = tmp_path / f"{number}.png"
        Image.fromarray(generator.integers(0, 256, (20, 27, 3), dtype=np.uint8)).save(file)
        dense = np.zeros((6, 20, 27), bool)
        for index in range(6):
            dense[index, index : index + 10, 2 * index : 2 * index + 9] = True
        masks = MaskSet.from_masks(dense).to_coco(number)
        result.append(ImageRecord(number, str(file), 20, 27, masks))
    return result


def make_loader(records: list[ImageRecord], workers: int = 0, **changes: Any) -> TrainLoader:
    cfg = get_cfg()
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.SOLVER.BATCH_SIZE = 2
    cfg.INPUT.IMAGE_SIZE = 27
    return build_train_loader(cfg, records, **changes)


def take(loader: TrainLoader, count: int) -> list[list[dict[str, Any]]]:
    batches = iter(loader)
    taken = list(islice(batches, count))
    batches.close()
    return taken


def test_workers_change_nothing(records: list[ImageRecord]) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    alone, helped = take(make_loader(records), 6), take(make_loader(records, workers=2), 6)
    assert torch.equal(torch.get_rng_state(), state), "the global generator belongs to training"
    for first, second in zip(alone, helped, strict=True):
        for a, b in zip(first, second, strict=True):
            assert a["file_name"] == b["file_name"]
            for name in ("image", "masks", "granularity"):
                assert torch.equal(a[name], b[name])
                assert a[name].dtype == b[name].dtype
    assert alone[0][0]["masks"].dtype == torch.bool


def test_masks_survive_packing(records: list[ImageRecord]) -> None:
    cfg = get_cfg()
    cfg.INPUT.IMAGE_SIZE = 27
    key = PhotoOrder([5], seed=cfg.SEED).key(0)
    direct = TrainingMapper.from_config(cfg)(records[key.photo], key)
    assert torch.equal(take(make_loader(records), 1)[0][0]["masks"], direct["masks"])


def test_start_skips_what_was_seen(records: list[ImageRecord]) -> None:
    straight = take(make_loader(records), 5)
    rest = take(make_loader(records, start=6), 2)
    assert [[s["file_name"] for s in b] for b in straight[3:]] == [
        [s["file_name"] for s in b] for b in rest
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_photo_that_became_unreadable(records: list[ImageRecord], workers: int) -> None:
    Path(records[2].file_name).write_bytes(b"no photo")
    with pytest.raises(DataError, match=r"^\S*2\.png: not a readable photo"):
        take(make_loader(records, workers), 5)


def test_transforms_that_draw_from_global_generators_are_seeded_by_the_sample() -> None:
    class Drawing(torch.utils.data.Dataset):
        def __getitem__(self, key: SampleKey) -> dict[str, Any]:
            numbers = [random.random(), np.random.rand(), torch.rand(()).item()]  # noqa: NPY002
            bits = np.zeros((1, 1, 8), bool)
            return {
                "image": torch.tensor(numbers, dtype=torch.float64).expand(1, 8, 3).mT,
                "masks": torch.from_numpy(bits),
                "key": key,
            }

    def numbers(workers: int, seed: int = 3) -> dict[SampleKey, list[float]]:
        sampler = ResumableSampler(PhotoOrder([3], seed=0), 2)
        loader = TrainLoader(Drawing(), sampler, num_workers=workers, seed=seed)  # type: ignore[arg-type]
        return {s["key"]: s["image"][0, :, 0].tolist() for b in take(loader, 3) for s in b}

    alone = numbers(0)
    assert numbers(2) == alone
    assert numbers(0, seed=4) != alone
    assert len({number for three in alone.values() for number in three}) == 3 * len(alone)


def test_datasets_are_mixed_by_their_weights(records: list[ImageRecord]) -> None:
    cfg = get_cfg()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.BATCH_SIZE = 8
    cfg.INPUT.IMAGE_SIZE = 27
    cfg.DATASETS.WEIGHTS = (3.0, 1.0)
    batches = take(build_train_loader(cfg, records, lengths=[1, 4]), 4)
    samples = [sample for batch in batches for sample in batch]
    assert 22 <= sum(sample["photo"] == 0 for sample in samples) <= 26
    assert {sample["photo"] for sample in samples} == set(range(5))


def test_workers_that_would_be_ahead_of_the_task_sampler(records: list[ImageRecord]) -> None:
    tasks = AdaptiveTaskSampler(5, 3, refresh_period=4)
    make_loader(records, 1, tasks=tasks)
    with pytest.raises(ConfigError, match=r"TASKS\.REFRESH_PERIOD 4 is less than the 5 steps"):
        make_loader(records, 2, tasks=tasks)


def test_no_photo() -> None:
    with pytest.raises(ConfigError, match=r"DATASETS\.TRAIN"):
        make_loader([])


def test_signals_to_workers_do_not_end_them_but_the_loader_does(
    records: list[ImageRecord],
) -> None:
    batches = iter(make_loader(records, workers=2))
    next(batches), next(batches)  # one of each worker: both are up
    children = multiprocessing.active_children()
    assert len(children) == 2
    # A signal of the whole group, as a terminal or a scheduler sends it: not from the parent.
    for child in children:
        pid = os.fork()
        if pid == 0:
            os.kill(child.pid or 0, signal.SIGTERM)
            os.kill(child.pid or 0, signal.SIGINT)
            os._exit(0)
        os.waitpid(pid, 0)
    time.sleep(0.3)
    assert len(list(islice(batches, 20))) == 20
    batches.close()
    for child in children:
        child.join(timeout=10)
        assert not child.is_alive()


def test_worker_that_dies_is_one_line(records: list[ImageRecord]) -> None:
    batches = iter(make_loader(records, workers=1))
    next(batches)
    with pytest.raises(TrainingError, match=r"NUM_WORKERS"), worker_deaths_as_errors():
        for child in multiprocessing.active_children():
            child.kill()
        time.sleep(10)  # torch's signal handler raises here
