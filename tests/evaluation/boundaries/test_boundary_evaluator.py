from __future__ import annotations

import pickle

import numpy as np
import pytest

from unsam.config import get_cfg
from unsam.data import ImageRecord
from unsam.errors import DataError
from unsam.evaluation import EVALUATORS, BoundaryEvaluator
from unsam.structures import MaskSet

SIZE = (60, 80)
# Two pixels on photos of this size; the default is less than one.
SETTINGS = {"num_thresholds": 9, "tolerance": 0.02}


def cut(seed: int, pieces: int) -> MaskSet:
    """Return a partition into the cells of random sites."""
    sites = np.random.default_rng(seed).random((pieces, 2)) * SIZE
    grid = np.stack(np.mgrid[: SIZE[0], : SIZE[1]], -1)[:, :, None]
    return MaskSet.from_label_map(((grid - sites) ** 2).sum(-1).argmin(-1))


def record_of(image_id: int, people: list[MaskSet]) -> ImageRecord:
    rows = [
        row | {"annotator": person}
        for person, masks in enumerate(people)
        for row in masks.to_coco(image_id)
    ]
    return ImageRecord(image_id, f"/photos/{image_id}.jpg", *SIZE, rows)


def dataset(photos: int) -> tuple[list[ImageRecord], list[MaskSet]]:
    people = [[cut(10 * number + person, 6) for person in range(3)] for number in range(photos)]
    records = [record_of(5 + 3 * number, item) for number, item in enumerate(people)]
    results = [MaskSet.cat([item[0], cut(99 + n, 9)]) for n, item in enumerate(people)]
    rng = np.random.default_rng(0)
    return records, [masks.replace(score=rng.random(len(masks))) for masks in results]


def scores(evaluator: BoundaryEvaluator, results: dict[int, MaskSet]) -> dict[str, float]:
    for image_id, masks in results.items():
        evaluator.process([{"image_id": image_id}], [masks])
    return evaluator.evaluate()


def test_a_persons_own_masks_are_perfect() -> None:
    masks = cut(1, 7)
    found = scores(BoundaryEvaluator([record_of(3, [masks])], **SETTINGS), {3: masks})
    assert found["boundary_ODS_F"] == pytest.approx(1, abs=0.01)
    assert found["boundary_OIS_F"] == pytest.approx(1, abs=0.01)


def test_overlapping_masks_without_annotators_are_one_persons() -> None:
    boxes = np.zeros((2, *SIZE), bool)
    boxes[0, 10:50, 10:50] = True
    boxes[1, 30:55, 30:70] = True
    masks = MaskSet.from_masks(boxes)
    crowd = MaskSet.from_masks(np.ones((1, *SIZE))).to_coco(1, first_id=9)
    rows = [*masks.to_coco(1), crowd[0] | {"iscrowd": 1}]
    records = [ImageRecord(1, "a.jpg", *SIZE, rows)]
    found = scores(BoundaryEvaluator(records, **SETTINGS), {1: masks})
    assert found["boundary_ODS_F"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_any_sharing_gives_the_same_numbers(ranks: int) -> None:
    """Results of the ranks' shares, sent as bytes and joined, in any order."""
    records, results = dataset(4)
    joined = {}
    for rank in reversed(range(ranks)):
        share = BoundaryEvaluator(records, **SETTINGS)
        for record, masks in list(zip(records, results, strict=True))[rank::ranks]:
            share.process([{"image_id": record.image_id}], [masks])
        text = pickle.dumps(share._results)
        assert len(text) < 4000
        joined |= pickle.loads(text)
    whole = BoundaryEvaluator(records, **SETTINGS)
    by_id = {record.image_id: masks for record, masks in zip(records, results, strict=True)}
    expected = scores(whole, by_id)
    assert whole.measure(joined) == expected
    assert 0.5 < expected["boundary_ODS_F"] <= expected["boundary_OIS_F"] < 1
    curve = whole.curves(joined)["boundary_precision_recall"]
    assert len(curve["x"]) == len(curve["y"]) == 9
    assert curve["x"] == sorted(curve["x"], reverse=True)


def test_a_photo_without_a_result_counts_as_one_without_boundaries() -> None:
    records, results = dataset(2)
    both = BoundaryEvaluator(records, **SETTINGS)
    one = scores(BoundaryEvaluator(records[:1], **SETTINGS), {5: results[0]})
    found = scores(both, {5: results[0]})
    assert found["boundary_OIS_recall"] < 0.7 * one["boundary_OIS_recall"]
    assert found["boundary_OIS_precision"] == one["boundary_OIS_precision"]
    with_empty = BoundaryEvaluator(records, **SETTINGS)
    assert scores(with_empty, {5: results[0], 8: MaskSet.empty(SIZE)}) == found


def test_bad_input_is_one_line() -> None:
    records, results = dataset(1)
    with pytest.raises(DataError, match="masks of size"):
        BoundaryEvaluator(records).process([{"image_id": 5}], [MaskSet.empty((8, 8))])
    with pytest.raises(DataError, match="not in the dataset"):
        BoundaryEvaluator(records).process([{"image_id": 6}], results)
    with pytest.raises(ValueError, match="tolerance between 0 and 1"):
        BoundaryEvaluator(records, tolerance=1.5)
    part = [row for row in records[0].load_annotations() if row["id"] > 1]
    selection = ImageRecord(5, "a.jpg", *SIZE, part)
    with pytest.raises(DataError, match="annotator 0 do not cover"):
        BoundaryEvaluator([selection]).process([{"image_id": 5}], results)
    mixed = list(records[0].load_annotations())
    mixed[0] = {key: value for key, value in mixed[0].items() if key != "annotator"}
    with pytest.raises(DataError, match="some have none"):
        BoundaryEvaluator([ImageRecord(5, "a.jpg", *SIZE, mixed)]).process(
            [{"image_id": 5}], results
        )


def test_settings_come_from_the_config() -> None:
    cfg = get_cfg()
    cfg.EVALUATION.BOUNDARIES.NUM_THRESHOLDS = 5
    evaluator = EVALUATORS.get("BoundaryEvaluator").from_config(cfg, dataset(1)[0])
    np.testing.assert_allclose(evaluator.thresholds, [0.01, 0.255, 0.5, 0.745, 0.99])
    assert evaluator.tolerance == 0.0075
