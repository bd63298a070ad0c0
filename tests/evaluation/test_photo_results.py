"""Evaluations that were stopped go on, whoever began them, and never with what is outdated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.evaluation.test_evaluation_loop import config, write_dataset
from unsam.data import get_dataset
from unsam.errors import DataError
from unsam.evaluation import EVALUATORS, Otsu, build_segmenter, evaluate
from unsam.evaluation.clicks import Click, ClickTrace
from unsam.evaluation.photo_results import PhotoResults, photo_key
from unsam.structures import MaskSet

PHOTOS = 5
HEAD = "a" * 32


class Counting(Otsu):
    """Counts its photos and is killed at one of them."""

    def __init__(self, killed_at: int = 10**6) -> None:
        super().__init__()
        self.calls = 0
        self.killed_at = killed_at

    def generate(self, image: np.ndarray, granularity: Any = None) -> MaskSet:
        if self.calls == self.killed_at:
            raise KeyboardInterrupt
        self.calls += 1
        return super().generate(image, granularity)


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("run/photo_results/*/photos-rank*.bin"))


def tear(path: Path, how: str) -> None:
    """Damage the last record as a kill, a full disk or a bad sector would."""
    blob = path.read_bytes()
    if how == "cut":
        path.write_bytes(blob[:-7])
    elif how == "cut prefix":
        path.write_bytes(blob + b"\x10\x00\x00")
    elif how == "flipped":
        path.write_bytes(blob[:-3] + bytes([blob[-3] ^ 1]) + blob[-2:])
    elif how == "huge length":
        path.write_bytes(blob + b"\xff" * 12 + b"rest")


@pytest.mark.parametrize(
    ("how", "lost"), [("", 0), ("cut", 1), ("cut prefix", 0), ("flipped", 1), ("huge length", 0)]
)
def test_a_rerun_segments_only_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str, lost: int
) -> None:
    cfg = config(write_dataset(tmp_path, PHOTOS))
    straight = evaluate(cfg, Otsu())
    with pytest.raises(KeyboardInterrupt):
        evaluate(cfg, Counting(killed_at=3), output=tmp_path / "run")
    tear(*files_in(tmp_path), how)
    again = Counting()
    with caplog.at_level(logging.INFO, logger="unsam"):
        results = evaluate(cfg, again, output=tmp_path / "run")
    np.testing.assert_equal(results, straight)
    assert again.calls == PHOTOS - 3 + lost
    assert f"{3 - lost} of {PHOTOS} photos measured before" in caplog.text
    # What follows the torn record is sound again.
    nothing_left = Counting(killed_at=0)
    np.testing.assert_equal(evaluate(cfg, nothing_left, output=tmp_path / "run"), straight)


@pytest.mark.parametrize(
    ("overrides", "digest", "calls"),
    [
        ([], "other weights", PHOTOS),
        (["EVALUATION.MAX_DETECTIONS", "(1, 5)"], "", PHOTOS),
        (["EVALUATION.RESUME", "False"], "", PHOTOS),
        (["EVALUATION.MAX_IMAGES", "2"], "", 0),
        (["EVALUATION.REPORT_PHOTOS", "0"], "", 0),
        (["TEST.EXPECTED_RESULTS", "(('a', 'b', 'c', 1.0, 0.1),)"], "", 0),
        (["MODEL.WEIGHTS", "moved.pt"], "", 0),
    ],
)
def test_only_what_decides_a_result_makes_it_outdated(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    overrides: list[str],
    digest: str,
    calls: int,
) -> None:
    path = write_dataset(tmp_path, PHOTOS)
    evaluate(config(path), Otsu(), output=tmp_path / "run")
    again = Counting()
    cfg = config(path, *overrides)
    with caplog.at_level(logging.INFO, logger="unsam"):
        results = evaluate(cfg, again, output=tmp_path / "run", segmenter_digest=digest)
    assert again.calls == calls
    np.testing.assert_equal(results, evaluate(cfg, Otsu()))
    lines = [line for line in caplog.messages if "starting anew" in line]
    assert len(lines) == (1 if calls and "EVALUATION.RESUME" not in overrides else 0)


def test_a_photo_counts_again_when_it_or_its_truth_changes(tmp_path: Path) -> None:
    path = write_dataset(tmp_path, PHOTOS)
    evaluate(config(path), Otsu(), output=tmp_path / "run")
    path.write_text(path.read_text().replace('"area": 400', '"area": 401'))
    photo = tmp_path / "images" / "3.png"
    photo.write_bytes(photo.read_bytes() + b"\0")
    again = Counting()
    evaluate(config(path), again, output=tmp_path / "run")
    assert again.calls == 2
    keys = [photo_key(record) for record in get_dataset(str(path))]
    assert len(set(keys)) == PHOTOS


def test_stored_masks_are_part_of_what_decides(tmp_path: Path) -> None:
    path = write_dataset(tmp_path, 2)
    masks = tmp_path / "masks.json"
    masks.write_text(path.read_text())
    cfg = config(path, "EVALUATION.SEGMENTER", "StoredMasks", "EVALUATION.STORED_MASKS", str(masks))

    def recall() -> float:
        (metrics,) = evaluate(cfg, output=tmp_path / "run").values()
        return metrics["AverageRecallEvaluator"]["AR@1000"]

    assert recall() == 1.0
    content = masks.read_text()
    masks.write_text(content[: content.index('"annotations"')] + '"annotations": []}')
    assert recall() == 0.0


def test_records_hold_what_evaluators_keep_and_nothing_that_runs(tmp_path: Path) -> None:
    record = get_dataset(str(write_dataset(tmp_path, 1)))[0]
    trace = ClickTrace([Click(1, 2, True)], [0.5])
    result = {"a": ([b"text"], np.arange(3, dtype=np.float32)), "b": trace, "c": np.float64(2)}
    kept = PhotoResults(tmp_path / "kept", HEAD)
    kept.append(record, result)
    kept.close()
    (loaded,) = kept.load([record]).values()
    assert loaded["b"] == trace
    np.testing.assert_equal((loaded["a"], loaded["c"]), (result["a"], result["c"]))

    harm = PhotoResults(tmp_path / "harm", HEAD)
    harm.append(record, {"a": Harm()})
    harm.close()
    with pytest.raises(DataError, match=r"cannot be read.*EVALUATION\.RESUME False") as caught:
        harm.load([record])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harmed").exists()


class Harm:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("harmed"),)


def work(rank: int, world: int, folder: str, path: str) -> None:
    """Two ranks measure four of five photos, each two, then all five."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world
    )
    cfg = config(Path(path), "EVALUATION.MAX_IMAGES", "4")
    evaluate(cfg, Counting(), output=f"{folder}/run")
    again = Counting()
    results = evaluate(config(Path(path)), again, output=f"{folder}/run")
    torch.save((results, again.calls), f"{folder}/answer{rank}.pt")
    dist.destroy_process_group()


def test_any_number_of_ranks_goes_on_from_any_other(tmp_path: Path) -> None:
    path = write_dataset(tmp_path, PHOTOS)
    straight = evaluate(config(path), Otsu())
    mp.spawn(work, args=(2, str(tmp_path), str(path)), nprocs=2)
    answers = [torch.load(tmp_path / f"answer{rank}.pt", weights_only=False) for rank in range(2)]
    np.testing.assert_equal([results for results, _ in answers], [straight, straight])
    assert [calls for _, calls in answers] == [1, 0]
    first, second = files_in(tmp_path)
    # One rank goes on where two were, one photo of which is torn off.
    tear(second, "cut")
    again = Counting()
    np.testing.assert_equal(evaluate(config(path), again, output=tmp_path / "run"), straight)
    assert again.calls == 1
    assert files_in(tmp_path) == [first, second]


@pytest.mark.parametrize("name", sorted(name for name, _ in EVALUATORS))
def test_what_every_evaluator_keeps_survives_the_disk(tmp_path: Path, name: str) -> None:
    path = write_dataset(tmp_path, 2)
    words = ["EVALUATION.SEGMENTER", "StoredMasks", "EVALUATION.STORED_MASKS", str(path)]
    cfg = config(
        path, *words, "EVALUATION.EVALUATORS", name, "EVALUATION.BOUNDARIES.NUM_THRESHOLDS", "3"
    )
    straight = evaluate(cfg, output=tmp_path / "run")
    gone = build_segmenter(cfg)
    gone.set_photo = None
    np.testing.assert_equal(evaluate(cfg, gone, output=tmp_path / "run"), straight)
    assert files_in(tmp_path)[0].stat().st_size < 20_000
