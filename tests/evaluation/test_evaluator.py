from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.evaluation.synthetic import made_up_dataset
from unsam.errors import DataError
from unsam.evaluation import AverageRecallEvaluator
from unsam.evaluation.evaluator import raise_on_every_rank, rank_and_world

PHOTOS = 5
SHARES = {
    "even": lambda rank: list(range(rank, PHOTOS, 2)),
    "uneven": lambda rank: [0, 1, 2, 3] if rank == 0 else [4],
    "empty": lambda rank: list(range(PHOTOS)) if rank == 1 else [],
    "padded": lambda rank: [0, 1, 2] if rank == 0 else [3, 4, 0],
}


def metrics_of(places: list[int]) -> dict[str, float]:
    records, results = made_up_dataset(PHOTOS)
    evaluator = AverageRecallEvaluator(records)
    for place in places:
        image_id = records[place].image_id
        evaluator.process([{"image_id": image_id}], [results[image_id]])
    return evaluator.evaluate()


def fail(results: Any) -> dict[str, float]:
    raise DataError("nothing to measure")


def work(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world
    )
    assert rank_and_world() == (rank, world)
    answers: dict[str, Any] = {name: metrics_of(share(rank)) for name, share in SHARES.items()}
    evaluator = AverageRecallEvaluator(made_up_dataset(1)[0])
    evaluator.measure = fail  # type: ignore[method-assign]
    for name, collective in (
        ("measure", evaluator.evaluate),
        ("loop", lambda: raise_on_every_rank(DataError("bad photo") if rank == 1 else None)),
    ):
        try:
            collective()
        except DataError as error:
            answers[name] = str(error)
    torch.save(answers, f"{folder}/answers{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(2, str(folder)), nprocs=2)
    return [torch.load(Path(folder) / f"answers{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", sorted(SHARES))
def test_two_ranks_give_the_numbers_of_one(name: str, answers: list[dict[str, Any]]) -> None:
    expected = metrics_of(list(range(PHOTOS)))
    assert expected["AR@1000"] > 0.1
    for answer in answers:
        np.testing.assert_equal(answer[name], expected)


def test_an_error_on_one_rank_is_raised_on_all(answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        assert answer["measure"] == "nothing to measure"
        assert answer["loop"] == "bad photo"


def test_one_process_needs_no_group() -> None:
    assert rank_and_world() == (0, 1)
    raise_on_every_rank(None)
    with pytest.raises(DataError):
        raise_on_every_rank(DataError("bad photo"))
