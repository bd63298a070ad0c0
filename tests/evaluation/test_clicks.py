from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unsam.evaluation.clicks import (
    Click,
    ClickTrace,
    best_granularity,
    clicks_to_target,
    iou_with_truth,
    next_click,
)

GRIDS = st.tuples(st.integers(1, 24), st.integers(1, 24))


def naive_next_click(prediction: np.ndarray, truth: np.ndarray, clicks: list[Click]) -> Click:
    """The definition, on the whole image, without any shortcut."""
    depths = []
    for region in ((truth == 1) & ~prediction, (truth == 0) & prediction):
        padded = np.pad(region, 1).astype(np.uint8)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
        free = np.ones(truth.shape, bool)
        for click in clicks:
            free[click.y, click.x] = False
        depths.append(depth * free)
    positive = bool(depths[0].max() > depths[1].max())
    depth = depths[0] if positive else depths[1]
    y, x = np.argwhere(depth == depth.max())[0]
    return Click(int(y), int(x), positive)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_cropping_changes_no_click(data: st.DataObject) -> None:
    shape = data.draw(GRIDS)
    truth = data.draw(arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 1, 1])))
    prediction = data.draw(arrays(bool, shape))
    clicks: list[Click] = []
    for _ in range(4):
        expected = naive_next_click(prediction, truth, clicks)
        assert next_click(prediction, truth, clicks) == expected
        clicks.append(expected)


def test_shortcuts_change_no_click_on_large_blobs() -> None:
    rng = np.random.default_rng(1)
    for _ in range(25):
        shape = tuple(int(side) for side in rng.integers(60, 220, 2))
        fields = [cv2.resize(rng.standard_normal((n, n)), shape[::-1]) for n in (7, 9)]
        truth = (fields[0] > 0).astype(np.int8)
        truth[fields[0] > 1.2] = -1
        prediction = fields[1] > rng.uniform(-0.5, 0.5)
        clicks: list[Click] = []
        for _ in range(6):
            expected = naive_next_click(prediction, truth, clicks)
            assert next_click(prediction, truth, clicks) == expected
            clicks.append(expected)


def test_column_major_arrays_are_the_same() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((31, 17)) > 0.5).astype(np.int8)
    prediction = rng.random((31, 17)) > 0.5
    turned = next_click(np.asfortranarray(prediction), np.asfortranarray(truth))
    assert turned == next_click(prediction, truth)


def test_first_click_is_the_middle_of_the_object() -> None:
    truth = np.zeros((20, 30), np.int8)
    truth[4:13, 10:19] = 1
    assert next_click(np.zeros(truth.shape, bool), truth) == Click(8, 14, True)


def test_the_edge_of_the_image_is_an_edge() -> None:
    assert next_click(np.zeros((5, 5), bool), np.ones((5, 5), np.int8)) == Click(2, 2, True)


def test_equal_errors_give_a_negative_click() -> None:
    truth = np.zeros((5, 12), np.int8)
    truth[1:4, 1:4] = 1
    prediction = np.zeros(truth.shape, bool)
    prediction[1:4, 8:11] = True
    assert next_click(prediction, truth) == Click(2, 9, False)


def test_no_error_left_is_a_negative_click_on_the_first_pixel() -> None:
    truth = np.zeros((4, 4), np.int8)
    truth[3, 3] = 1
    assert next_click(truth == 1, truth) == Click(0, 0, False)
    assert next_click(np.zeros((4, 4), bool), truth, [Click(3, 3, True)]) == Click(0, 0, False)


def test_ignored_pixels_count_for_nothing() -> None:
    truth = np.array([[1, 1, -1, 0]], np.int8)
    assert iou_with_truth(np.array([[True, True, True, False]]), truth) == 1.0
    assert iou_with_truth(np.array([[True, False, True, True]]), truth) == pytest.approx(1 / 3)
    assert iou_with_truth(np.zeros((1, 4), bool), np.zeros((1, 4), np.int8)) == 0.0


def test_clicking_stops_at_the_target_or_the_limit() -> None:
    truth = np.ones((6, 6), np.int8)

    def reveal(clicks: object) -> np.ndarray:
        rows = np.arange(6)[:, None] < len(clicks)  # type: ignore[arg-type]
        return np.broadcast_to(rows, (6, 6))

    trace = clicks_to_target(reveal, truth, target=0.8)
    assert len(trace.clicks) == len(trace.ious) == 5
    assert [trace.clicks_to(target, 20) for target in (0.5, 0.8, 0.9)] == [3, 5, 20]
    never = clicks_to_target(lambda clicks: np.zeros((6, 6), bool), truth, max_clicks=7)
    assert never.ious == [0.0] * 7
    assert never.clicks_to(0.8, 7) == 7


def test_the_oracle_takes_fewest_clicks_then_the_better_start_then_the_finer() -> None:
    slow = ClickTrace(ious=[0.8, 0.85, 0.95])
    good, poor = ClickTrace(ious=[0.7, 0.9]), ClickTrace(ious=[0.6, 0.99])
    assert best_granularity([(0.1, slow), (0.2, poor), (0.3, good)]) == (0.3, good)
    assert best_granularity([(0.9, good), (0.3, good)])[0] == 0.3
