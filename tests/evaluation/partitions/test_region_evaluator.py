from __future__ import annotations

import pickle

import numpy as np
import pytest

from tests.evaluation.boundaries.test_boundary_evaluator import SIZE, cut, dataset, record_of
from unsam.config import get_cfg
from unsam.errors import DataError
from unsam.evaluation import EVALUATORS, RegionEvaluator
from unsam.structures import MaskSet


def scores(evaluator: RegionEvaluator, results: dict[int, MaskSet]) -> dict[str, float]:
    for image_id, masks in results.items():
        evaluator.process([{"image_id": image_id}], [masks])
    return evaluator.evaluate()


def test_both_persons_are_found_at_their_granularities() -> None:
    coarse, fine = cut(1, 3), cut(2, 30)
    masks = MaskSet.cat(
        [
            coarse.replace(granularity=np.full(len(coarse), 1.0)),
            fine.replace(granularity=np.full(len(fine), 0.2)),
        ]
    )
    found = scores(RegionEvaluator([record_of(3, [coarse])]), {3: masks})
    assert found["covering_ODS"] == found["PRI_ODS"] == 1
    assert found["VI_ODS"] == pytest.approx(0, abs=1e-12)
    assert found["covering_ODS_level"] == 0.25
    both = scores(RegionEvaluator([record_of(3, [coarse, fine])]), {3: masks})
    assert both["covering_OIS"] < both["covering_best"]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_any_sharing_gives_the_same_numbers(ranks: int) -> None:
    """Results of the ranks' shares, sent as bytes and joined, in any order."""
    records, results = dataset(4)
    joined = {}
    for rank in reversed(range(ranks)):
        share = RegionEvaluator(records)
        for record, masks in list(zip(records, results, strict=True))[rank::ranks]:
            share.process([{"image_id": record.image_id}], [masks])
        text = pickle.dumps(share._results)
        assert len(text) < 4000
        joined |= pickle.loads(text)
    whole = RegionEvaluator(records)
    by_id = {record.image_id: masks for record, masks in zip(records, results, strict=True)}
    expected = scores(whole, by_id)
    assert whole.measure(joined) == expected
    assert 0.3 < expected["covering_ODS"] <= expected["covering_OIS"] < 1
    curves = whole.curves(joined)
    assert max(curves["covering_by_granularity"]["y"]) == expected["covering_ODS"]
    assert min(curves["VI_by_granularity"]["y"]) == expected["VI_ODS"]


def test_a_photo_without_a_result_counts_as_one_region() -> None:
    records, results = dataset(2)
    found = scores(RegionEvaluator(records), {5: results[0]})
    assert scores(RegionEvaluator(records), {5: results[0], 8: MaskSet.empty(SIZE)}) == found
    whole = MaskSet.from_masks(np.ones((1, *SIZE), bool))
    assert scores(RegionEvaluator(records), {5: results[0], 8: whole}) == found


def test_bad_input_is_one_line() -> None:
    records, _ = dataset(1)
    with pytest.raises(DataError, match="masks of size"):
        RegionEvaluator(records).process([{"image_id": 5}], [MaskSet.empty((8, 8))])
    for bad in ((), (0.05,), (0.5, 1.1)):
        with pytest.raises(ValueError, match="granularities must be"):
            RegionEvaluator(records, granularities=bad)


def test_settings_come_from_the_config() -> None:
    cfg = get_cfg()
    evaluator = EVALUATORS.get("RegionEvaluator").from_config(cfg, dataset(1)[0])
    assert evaluator.granularities == pytest.approx(np.linspace(0.1, 1, 19).tolist())
