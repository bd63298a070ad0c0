"""The loader gives the same samples whoever makes them, and reports trouble once."""

from __future__ import annotations

import multiprocessing
import os
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
    from unsam.data.mapper import TrainingMapper
    from unsam.data.sampler import ResumableSampler

    cfg = get_cfg()
    cfg.INPUT.IMAGE_SIZE = 27
    key = ResumableSampler(5, 2, seed=cfg.SEED).key(0)
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
